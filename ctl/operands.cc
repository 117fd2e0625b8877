#include "ctl/operands.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <charconv>
#include <functional>

#include "ctl/failure.h"
#include "ctl/text.h"
#include "net/target.h"

namespace portfwd::ctl {
namespace {

using client::Container;
using client::Forward;

bool is_beginning(std::string_view id, std::string_view word) {
  return !word.empty() && id.starts_with(word);
}

/// What lists ids; a forward's id alone would tell a person nothing.
std::string described(const Container& container) {
  return container.id;
}
std::string described(const Forward& forward) {
  return fmt::format("{} ({})", forward.id, forward_text(forward));
}

template <class Object>
using Meaning = std::function<bool(const Object&)>;

/// The object that the first applicable meaning of `word` selects. @return null when there is none
template <class Object>
const Object* pick(const std::vector<Object>& objects, std::string_view word,
                   const std::vector<Meaning<Object>>& meanings) {
  for (const Meaning<Object>& is_meant : meanings) {
    std::vector<std::string> found;
    const Object* last = nullptr;
    for (const Object& object : objects) {
      if (!is_meant(object)) continue;
      last = &object;
      found.push_back(described(object));
    }
    if (found.size() == 1) return last;
    if (found.empty()) continue;
    std::ranges::sort(found);
    throw Failure(Status::Failed, fmt::format("'{}' is ambiguous, use one of: {}", echo(word),
                                              fmt::join(found, ", ")));
  }
  return nullptr;
}

std::vector<Meaning<Forward>> forward_meanings(std::string_view word) {
  std::vector<Meaning<Forward>> meanings;
  meanings.emplace_back([word](const Forward& f) { return f.id == word; });
  if (const auto port = parse_port(word)) {
    meanings.emplace_back([port](const Forward& f) { return f.host_port == *port; });
  }
  const std::size_t colon = word.rfind(':');
  if (colon == word.npos) return meanings;
  const auto target = parse_target(word.substr(colon + 1));
  if (target && target->port()) {
    meanings.emplace_back(
        [container = word.substr(0, colon), port = *target->port()](const Forward& f) {
          return is_of_container(f, container) && f.container_port == port.port &&
                 f.protocol == name_of(port.protocol);
        });
  }
  return meanings;
}

}  // namespace

bool is_of_container(const Forward& forward, std::string_view word) {
  return forward.container_name == word || is_beginning(forward.container_id, word);
}

const Container& pick_container(const std::vector<Container>& containers, std::string_view word) {
  const Container* found =
      pick<Container>(containers, word,
                      {[word](const Container& c) { return c.id == word; },
                       [word](const Container& c) { return c.name == word; },
                       [word](const Container& c) { return is_beginning(c.id, word); }});
  if (found) return *found;
  throw Failure(Status::Failed,
                fmt::format("no container '{}'; see `portfwdctl containers --all`", echo(word)));
}

const Forward& pick_forward(const std::vector<Forward>& forwards, std::string_view word) {
  if (const Forward* found = pick(forwards, word, forward_meanings(word))) return *found;
  throw Failure(Status::Failed, fmt::format("no forward '{}'; see `portfwdctl list`", echo(word)));
}

Port parse_port_or_fail(std::string_view text) {
  if (const auto port = parse_port(text)) return *port;
  throw Failure(Status::Usage, fmt::format("'{}' is no port: 1 to 65535", echo(text)));
}

std::string parse_target_or_fail(std::string_view text) {
  if (text.starts_with("unix:") || text.starts_with("vsock:")) return std::string(text);
  if (const auto target = parse_target(text)) return target->text();
  throw Failure(
      Status::Usage,
      fmt::format("'{}' is no target: a port of 1 to 65535, or such as 53/udp", echo(text)));
}

/// "unix:/path" and "vsock:1024" have a colon of their own; the daemon says whether it knows them.
ForwardOperand parse_forward_operand(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  const std::string_view before = text.substr(0, colon);
  const bool own_colon = before == "unix" || before == "vsock";
  if (colon == text.npos || own_colon) return {parse_target_or_fail(text), {}};
  return {parse_target_or_fail(before), parse_port_or_fail(text.substr(colon + 1))};
}

PortOperand parse_port_operand(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  const std::string_view before = text.substr(0, colon);
  const bool alone = colon == text.npos || before.empty() || before == "unix" || before == "vsock";
  if (alone) return {"", parse_target_or_fail(text)};
  return {std::string(before), parse_target_or_fail(text.substr(colon + 1))};
}

unsigned parse_pid_or_fail(std::string_view text) {
  unsigned pid = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), pid);
  if (error != std::errc{} || end != text.data() + text.size() || pid == 0) {
    throw Failure(Status::Usage, fmt::format("'{}' is no process id", echo(text)));
  }
  return pid;
}

}  // namespace portfwd::ctl
