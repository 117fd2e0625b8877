#include "ctl/objects.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "ctl/failure.h"
#include "ctl/tables.h"

namespace portfwd::ctl {
namespace {

using Matches = std::vector<const Object*>;

Matches matching(const std::vector<Object>& objects,
                 const std::function<bool(const Json& value)>& wanted) {
  Matches found;
  for (const Object& object : objects) {
    if (wanted(object.value)) found.push_back(&object);
  }
  return found;
}

/// An id, and what it is if ids alone would tell a person nothing.
std::string described(const Json& value) {
  const auto id = value["id"].get<std::string>();
  return value.contains("host_port") ? fmt::format("{} ({})", id, forward_text(value)) : id;
}

const Object& the_only(const Matches& found, std::string_view kind, std::string_view word) {
  if (found.size() == 1) return *found.front();
  std::vector<std::string> ids;
  for (const Object* object : found) ids.push_back(described(object->value));
  std::ranges::sort(ids);
  throw Failure(Status::Failed, fmt::format("'{}' means several {}s; name one by its id: {}",
                                            echo(word), kind, fmt::join(ids, ", ")));
}

bool is(const Json& value, std::string_view text) {
  return value.get<std::string_view>() == text;
}

bool begins(const Json& value, std::string_view text) {
  return !text.empty() && value.get<std::string_view>().starts_with(text);
}

/// What a person may call a forward, the surest first.
std::vector<std::function<bool(const Json&)>> forward_meanings(std::string_view word) {
  std::vector<std::function<bool(const Json&)>> meanings;
  meanings.emplace_back([word](const Json& f) { return is(f["id"], word); });
  if (const auto port = parse_port(word)) {
    meanings.emplace_back([port](const Json& f) { return f["host_port"] == *port; });
  }
  const std::size_t colon = word.rfind(':');
  if (colon == word.npos) return meanings;
  const std::string_view container = word.substr(0, colon);
  if (const auto target = parse_target(word.substr(colon + 1))) {
    meanings.emplace_back([container, target](const Json& f) {
      return in_container(f, container) && f["container_port"] == target->port_number() &&
             is(f["protocol"], name_of(target->protocol()));
    });
  }
  return meanings;
}

}  // namespace

bool in_container(const Json& forward, std::string_view word) {
  const Json& container = forward["container"];
  return is(container["name"], word) || begins(container["id"], word);
}

const Object& pick_container(const std::vector<Object>& containers, std::string_view word) {
  for (const auto& wanted :
       {std::function<bool(const Json&)>([word](const Json& c) { return is(c["id"], word); }),
        {[word](const Json& c) { return is(c["name"], word); }},
        {[word](const Json& c) { return begins(c["id"], word); }}}) {
    const Matches found = matching(containers, wanted);
    if (!found.empty()) return the_only(found, "container", word);
  }
  throw Failure(Status::Failed,
                fmt::format("no container '{}'; see `portfwdctl containers --all`", echo(word)));
}

const Object& pick_forward(const std::vector<Object>& forwards, std::string_view word) {
  for (const auto& wanted : forward_meanings(word)) {
    const Matches found = matching(forwards, wanted);
    if (!found.empty()) return the_only(found, "forward", word);
  }
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

}  // namespace portfwd::ctl
