
#include "ctl/commands.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "base/text.h"
#include "client/client.h"
#include "client/subscription.h"
#include "ctl/text.h"
#include "ctl/when.h"
#include "net/presets.h"
#include "net/target.h"

namespace portfwd::ctl {

bool is_web_address(std::string_view url) {
  if (!url.starts_with("http://") && !url.starts_with("https://")) return false;
  return std::ranges::all_of(url, [](char c) { return c > ' ' && c < '\x7f' && c != '"'; });
}

void open_in_browser(const std::string& url) {
  if (!is_web_address(url)) {
    throw Failure(Status::Failed, "cannot open the forward: it has no web address");
  }
  std::string program = "xdg-open";
  std::string argument = url;
  const std::array<char*, 3> arguments{program.data(), argument.data(), nullptr};
  pid_t pid = 0;
  if (const int error =
          ::posix_spawnp(&pid, program.c_str(), nullptr, nullptr, arguments.data(), environ)) {
    throw Failure(Status::Failed, fmt::format("cannot run xdg-open: {}; install xdg-utils, or open "
                                              "{} yourself",
                                              std::strerror(error), url));
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    throw Failure(
        Status::Failed,
        fmt::format("cannot open {}: xdg-open failed; open it in a browser yourself", url));
  }
}

namespace {

using client::Container;
using client::Forward;

bool is_beginning(std::string_view id, std::string_view word) {
  return !word.empty() && id.starts_with(word);
}

/// An object in a list of candidates. The id of a forward does not identify it to a user.
std::string described(const Container& container) {
  return container.id;
}
std::string described(const Forward& forward) {
  return fmt::format("{} ({})", forward.id, forward_text(forward));
}

template <class Object>
using Matcher = std::function<bool(const Object&)>;

/// Finds the object that `word` selects by the first of `meanings` that any object has. Throws
/// Failure when several have it. @return null when none has
template <class Object>
const Object* pick(const std::vector<Object>& objects, std::string_view word,
                   const std::vector<Matcher<Object>>& matchers) {
  for (const Matcher<Object>& matches : matchers) {
    std::vector<std::string> found;
    const Object* last = nullptr;
    for (const Object& object : objects) {
      if (!matches(object)) continue;
      last = &object;
      found.push_back(described(object));
    }
    if (found.size() == 1) return last;
    if (found.empty()) continue;
    std::ranges::sort(found);
    throw Failure(Status::Failed, fmt::format("'{}' is ambiguous; use one of: {}", echo(word),
                                              fmt::join(found, ", ")));
  }
  return nullptr;
}

/// The colon in CONTAINER:TARGET; npos if there is none. "unix:" and "vsock:" begin a target, which
/// may contain any colons.
std::size_t target_colon(std::string_view word) {
  for (const std::string_view kind : {":unix:", ":vsock:"}) {
    if (const auto at = word.find(kind); at != word.npos) return at;
  }
  const bool alone = word.starts_with("unix:") || word.starts_with("vsock:");
  return alone ? word.npos : word.rfind(':');
}

std::vector<Matcher<Forward>> forward_matchers(std::string_view word) {
  std::vector<Matcher<Forward>> matchers;
  matchers.emplace_back([word](const Forward& f) { return f.id == word; });
  if (const auto port = parse_port(word)) {
    matchers.emplace_back([port](const Forward& f) { return f.host_port == *port; });
  }
  if (word.starts_with('/')) {
    matchers.emplace_back([word](const Forward& f) { return f.host_path == word; });
  }
  const std::size_t colon = target_colon(word);
  if (colon == word.npos) return matchers;
  if (const auto target = parse_target(word.substr(colon + 1))) {
    matchers.emplace_back([container = word.substr(0, colon), target = *target](const Forward& f) {
      return is_of_container(f, container) && f.target == target.text();
    });
  }
  return matchers;
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
  throw Failure(
      Status::Failed,
      fmt::format("there is no container '{}'; see `portfwdctl containers --all`", echo(word)));
}

const Forward& pick_forward(const std::vector<Forward>& forwards, std::string_view word) {
  if (const Forward* found = pick(forwards, word, forward_matchers(word))) return *found;
  throw Failure(Status::Failed,
                fmt::format("there is no forward '{}'; see `portfwdctl list`", echo(word)));
}

Port parse_port_or_fail(std::string_view text) {
  if (const auto port = parse_port(text)) return *port;
  throw Failure(Status::Usage,
                fmt::format("'{}' is not a host port; give a number from 1 to 65535", echo(text)));
}

std::string parse_target_or_fail(std::string_view text) {
  if (text.starts_with("unix:") || text.starts_with("vsock:")) return std::string(text);
  if (const auto target = parse_target(text)) return target->text();
  throw Failure(
      Status::Usage,
      fmt::format("'{}' is not a port; give a number from 1 to 65535, such as 8080 or 53/udp",
                  echo(text)));
}

/// After the colon of "unix:" or "vsock:", only a colon before a port or an absolute path
/// separates.
ForwardOperand parse_forward_operand(std::string_view text) {
  const std::size_t kind = text.find(':');
  const bool own_colon = text.starts_with("unix:") || text.starts_with("vsock:");
  const std::size_t colon = text.rfind(':');
  if (colon == text.npos || (own_colon && colon == kind)) return {parse_target_or_fail(text)};
  const std::string_view before = text.substr(0, colon);
  const std::string_view after = text.substr(colon + 1);
  if (own_colon && after.starts_with('/')) {
    return {parse_target_or_fail(before), {}, fmt::format("unix:{}", after)};
  }
  if (own_colon && !parse_port(after)) return {parse_target_or_fail(text)};
  return {parse_target_or_fail(before), parse_port_or_fail(after)};
}

PortOperand parse_port_operand(std::string_view text) {
  const std::size_t colon = target_colon(text);
  const std::string_view before = text.substr(0, colon);
  if (colon == text.npos || before.empty()) return {"", parse_target_or_fail(text)};
  return {std::string(before), parse_target_or_fail(text.substr(colon + 1))};
}

std::optional<unsigned> parse_mode_or_fail(const std::optional<std::string>& text) {
  if (!text) return {};
  unsigned mode = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), mode, 8);
  if (error != std::errc{} || end != text->data() + text->size() || mode > 0777) {
    throw Failure(
        Status::Usage,
        fmt::format("'{}' is not a mode; give permission bits such as 0600", echo(*text)));
  }
  return mode;
}

std::optional<unsigned> parse_uid_or_fail(const std::optional<std::string>& text) {
  if (!text) return {};
  unsigned uid = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), uid);
  if (error != std::errc{} || end != text->data() + text->size()) {
    throw Failure(Status::Usage, fmt::format("'{}' is not a uid; give the number of a user inside, "
                                             "such as 1000",
                                             echo(*text)));
  }
  return uid;
}

unsigned parse_pid_or_fail(std::string_view text) {
  unsigned pid = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), pid);
  if (error != std::errc{} || end != text.data() + text.size() || pid == 0) {
    throw Failure(
        Status::Usage,
        fmt::format("'{}' is not a process id; give a number above 0, as ps shows it", echo(text)));
  }
  return pid;
}

namespace {

using client::Client;
using client::Container;
using client::Event;
using client::Forward;

/// Writes the answer as JSON or as text, with or without colour.
class Output {
 public:
  explicit Output(const CommandLine& line) : json_(line.has("--json")), colour_(colour_wanted()) {}

  [[nodiscard]] bool json() const { return json_; }
  [[nodiscard]] bool colour() const { return colour_; }

  void document(const Json& value) const { text(dump(value, 2)); }
  void line(const Json& value) const { text(dump(value, -1)); }
  void flush() const { (void)std::fflush(stdout); }
  void text(const std::string& lines) const {
    (void)std::fwrite(lines.data(), 1, lines.size(), stdout);
  }

 private:
  static std::string dump(const Json& value, int indent) {
    return value.dump(indent, ' ', false, Json::error_handler_t::replace) + '\n';
  }
  static bool colour_wanted() {
    const char* refused = std::getenv("NO_COLOR");  // set and not empty: https://no-color.org
    const char* term = std::getenv("TERM");
    return ::isatty(STDOUT_FILENO) && !(refused && *refused) &&
           !(term && std::strcmp(term, "dumb") == 0);
  }

  bool json_;
  bool colour_;
};

struct Call {
  const CommandLine& line;
  Client& daemon;
  const Output& out;
};

template <class Object>
void show(const Call& call, const std::vector<Object>& objects,
          std::string (*table)(const std::vector<Object>&, bool)) {
  if (call.out.json()) return call.out.document(to_json(objects));
  call.out.text(table(objects, call.out.colour()));
  call.out.text(shortage_line(call.daemon.status()));
}

void list(const Call& call) {
  std::vector<Forward> forwards = call.daemon.forwards();
  if (const auto container = call.line.value("--container")) {
    std::erase_if(forwards, [&](const Forward& f) { return !is_of_container(f, *container); });
    if (forwards.empty()) {  // fails if there is no such container
      const std::vector<Container> all = call.daemon.containers();
      static_cast<void>(pick_container(all, *container));
    }
  }
  show(call, forwards, forwards_table);
}

void containers(const Call& call) {
  std::vector<Container> found = call.daemon.containers();
  if (!call.line.has("--all")) {
    std::erase_if(found, [](const Container& c) {
      return c.engine.empty() && !c.ever_listened && !c.attached;
    });
  }
  show(call, found, containers_table);
}

/// Whether a manual forward occupies the container port of a request.
bool occupies_port(const Forward& forward, const client::ForwardRequest& request) {
  return forward.origin == "manual" && is_of_container(forward, request.container) &&
         forward.target == request.target && forward.is_reverse() == request.reverse;
}

/// Adds to a refusal that names the forward that is in the way which command ends it. A refusal for
/// another cause, such as an invalid address, is not changed.
std::optional<Forward> add_forward(Client& daemon, const client::ForwardRequest& request) {
  try {
    return daemon.add_forward(request);
  } catch (const client::Error& error) {
    if (error.name() != "org.portfwd1.Error.InvalidArgument") throw;
    for (const Forward& f : daemon.forwards()) {
      const bool named = std::string_view(error.what()).contains(fmt::format("forward {} ", f.id));
      if (!named || !occupies_port(f, request)) continue;
      throw Failure(Status::Failed,
                    fmt::format("{}; `portfwdctl unforward {}` ends it", error.what(), f.id));
    }
    throw;
  }
}

void forward(const Call& call) {
  const ForwardOperand operand = parse_forward_operand(call.line.operands[1]);
  client::ForwardRequest request{
      .container = call.line.operands[0],
      .target = operand.target,
      .host_port = operand.host_port,
      .host = operand.host,
      .mode = parse_mode_or_fail(call.line.value("--mode")),
      .owner = call.line.value_or_empty("--owner"),
      .peer_uid = parse_uid_or_fail(call.line.value("--as")),
      .create_parents = call.line.has("--create-parents"),
      .pass_fds = call.line.has("--pass-fds"),
      .bind = call.line.value_or_empty("--bind"),
      .container_address = call.line.value_or_empty("--address"),
      .label = call.line.value_or_empty("--label"),
      .reverse = call.line.has("--reverse"),
      .persist = call.line.has("--persist"),
      .allow_missing = call.line.has("--allow-missing"),
  };
  if (const auto host = call.line.value("--host")) {
    if (request.host_port || !request.host.empty())
      throw Failure(Status::Usage,
                    "the place on the host is given twice; give it after TARGET or with --host");
    request.host = *host;
  }
  if (const auto port = call.line.value("--host-port")) {
    if (request.host_port)
      throw Failure(Status::Usage,
                    "the host port is given twice; give either TARGET:HOSTPORT or --host-port");
    request.host_port = parse_port_or_fail(*port);
  }
  const std::optional<Forward> made = add_forward(call.daemon, request);
  if (call.out.json()) return call.out.document(made ? to_json(*made) : Json(nullptr));
  if (made) {
    const std::string why = made->state == "conflict" ? ": " + printable(made->reason) : "";
    call.out.text(fmt::format("{}  ({}, {}{})\n", forward_text(*made), made->id, made->state, why));
  }
}

/// What a share leads to, and where it appears.
struct Shared {
  const Preset* preset = nullptr;  ///< null: a path
  std::string host;                ///< "unix:/PATH", possibly with variables
  std::string inside;              ///< "unix:/PATH"
};

Shared parse_shared(const CommandLine& line) {
  const std::string& what = line.operands[1];
  const auto at = line.value("--at");
  Shared out{.preset = find_preset(what)};
  std::string_view file;
  if (out.preset != nullptr) {
    out.host = fmt::format("unix:{}", out.preset->host);
    file = out.preset->file;
  } else if (what.starts_with("unix:/")) {
    out.host = what;
    file = std::string_view(what).substr(what.rfind('/') + 1);
  } else {
    std::string names;
    for (const Preset& preset : presets()) names += fmt::format("{}, ", preset.name);
    throw Failure(Status::Usage, fmt::format("'{}' is no socket of the host; give one of {}or "
                                             "unix: and an absolute path",
                                             echo(what), names));
  }
  out.inside = fmt::format("unix:{}", at ? *at : fmt::format("{}/{}", kSharedFolder, file));
  return out;
}

/// How a program inside finds the socket, and what that means.
std::string share_hint(const Shared& shared, const Forward& made) {
  if (shared.preset == nullptr) return "";
  std::string out;
  if (!shared.preset->variable.empty()) {
    out += fmt::format("in the container: export {}={}{}\n", shared.preset->variable,
                       shared.preset->prefix, printable(made.container_path));
  }
  return out + fmt::format("note: {}\n", shared.preset->gains);
}

void share(const Call& call) {
  const Shared shared = parse_shared(call.line);
  const std::optional<Forward> made = add_forward(
      call.daemon, {.container = call.line.operands[0],
                    .target = shared.inside,
                    .host = shared.host,
                    .mode = parse_mode_or_fail(call.line.value("--mode")),
                    .owner = call.line.value_or_empty("--owner"),
                    .create_parents = call.line.has("--create-parents") || !call.line.has("--at"),
                    .pass_fds = call.line.has("--pass-fds") ||
                                (shared.preset != nullptr && shared.preset->pass_fds),
                    .label = shared.preset == nullptr ? "" : std::string(shared.preset->name),
                    .reverse = true,
                    .persist = call.line.has("--persist"),
                    .allow_missing = call.line.has("--allow-missing")});
  if (call.out.json()) return call.out.document(made ? to_json(*made) : Json(nullptr));
  if (!made) return;
  const std::string why = made->state == "conflict" ? ": " + printable(made->reason) : "";
  call.out.text(fmt::format("{}  ({}, {}{})\n", forward_text(*made), made->id, made->state, why));
  call.out.text(share_hint(shared, *made));
}

void unforward(const Call& call) {
  const std::vector<Forward> forwards = call.daemon.forwards();
  const Forward& ended = pick_forward(forwards, call.line.operands[0]);
  call.daemon.remove_forward(ended.path);
  if (call.out.json()) call.out.document(to_json(ended));
}

UniqueFd open_namespace(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (const int error = errno; !fd.valid()) {
    throw Failure(Status::Failed, fmt::format("cannot open network namespace '{}': {}", echo(path),
                                              std::strerror(error)));
  }
  return fd;
}

void attach(const Call& call) {
  const auto pid = call.line.value("--pid");
  const auto path = call.line.value("--netns");
  if (pid.has_value() == path.has_value()) {
    throw Failure(Status::Usage,
                  "attach needs either --pid PID or --netns PATH; see `portfwdctl attach --help`");
  }
  const std::string name = call.line.value_or_empty("--name");
  const std::optional<Container> made = pid ? call.daemon.attach_pid(parse_pid_or_fail(*pid), name)
                                            : call.daemon.attach_netns(open_namespace(*path), name);
  if (call.out.json()) return call.out.document(made ? to_json(*made) : Json(nullptr));
  if (made) call.out.text(containers_table({*made}, call.out.colour()));
}

void detach(const Call& call) {
  const std::vector<Container> containers = call.daemon.containers();
  const Container& detached = pick_container(containers, call.line.operands[0]);
  call.daemon.detach(detached.path);
  if (call.out.json()) call.out.document(to_json(detached));
}

/// Selects events by number, which the daemon does, or by time, which portfwdctl does.
struct EventFilter {
  std::uint64_t after = 0;
  WallTime from{};

  [[nodiscard]] bool accepts_event(const Event& event) const { return event.time >= from; }
};

EventFilter parse_filter(const CommandLine& line) {
  const auto text = line.value("--since");
  if (!text) return {};
  const auto now =
      std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now());
  const auto since = parse_since(*text, now);
  if (!since) {
    throw Failure(Status::Usage,
                  fmt::format("--since needs a time such as 2026-01-31T12:00:00Z, -5min, now or "
                              "#17, not '{}'",
                              echo(*text)));
  }
  if (const auto* after = std::get_if<std::uint64_t>(&*since)) return {.after = *after};
  return {.from = std::get<WallTime>(*since)};
}

/// Prints past events, then each new one, until the daemon is lost.
[[noreturn]] void follow_events(const Call& call, const EventFilter& filter) {
  client::Subscription subscription(call.daemon, {.events_after = filter.after});
  while (true) {
    const auto next = subscription.next();
    if (!next || std::holds_alternative<client::DaemonLost>(*next)) throw daemon_lost();
    const auto& event = std::get<Event>(*next);
    if (!filter.accepts_event(event)) continue;
    if (call.out.json()) {
      call.out.line(to_json(event));
    } else {
      call.out.text(event_line(event, call.out.colour()));
    }
    call.out.flush();
  }
}

void events(const Call& call) {
  const EventFilter filter = parse_filter(call.line);
  if (call.line.has("--follow")) follow_events(call, filter);
  std::vector<Event> events = call.daemon.events_after(filter.after);
  std::erase_if(events, [&](const Event& event) { return !filter.accepts_event(event); });
  if (call.out.json()) return call.out.document(to_json(events));
  for (const Event& event : events) call.out.text(event_line(event, call.out.colour()));
}

/// Adds a shortage of descriptors to a refusal, since it may be why the daemon does not know a
/// port.
client::Explanation explanation_of(Client& daemon, const PortOperand& asked) {
  try {
    return daemon.explain(asked.container, asked.target);
  } catch (const client::Error& error) {
    if (error.kind() != client::Error::Kind::Refused) throw;
    throw Failure(Status::Failed,
                  failure_of(error, "explain").what() + ("\n" + shortage_line(daemon.status())));
  }
}

void explain(const Call& call) {
  const auto& operands = call.line.operands;
  const PortOperand asked = operands.size() == 2
                                ? PortOperand{operands[0], parse_target_or_fail(operands[1])}
                                : parse_port_operand(operands[0]);
  const client::Explanation explanation = explanation_of(call.daemon, asked);
  if (call.out.json()) return call.out.document(to_json(explanation));
  call.out.text(explanation_text(explanation, call.out.colour()));
}

void status(const Call& call) {
  const client::Status status = call.daemon.status();
  if (call.out.json()) return call.out.document(to_json(status.facts));
  call.out.text(status_text(status, call.out.colour()));
}

void reload(const Call& call) {
  call.daemon.reload();
  if (call.out.json()) call.out.document({{"reloaded", true}});
}

void open(const Call& call) {
  const std::vector<Forward> forwards = call.daemon.forwards();
  const Forward& shown = pick_forward(forwards, call.line.operands[0]);
  open_in_browser(shown.url);
  if (call.out.json()) call.out.document({{"url", shown.url}});
}

struct Entry {
  std::string_view name;
  void (*run)(const Call& call);
};
constexpr std::array kEntries{
    Entry{"list", list},     Entry{"containers", containers}, Entry{"forward", forward},
    Entry{"share", share},   Entry{"unforward", unforward},   Entry{"attach", attach},
    Entry{"detach", detach}, Entry{"events", events},         Entry{"explain", explain},
    Entry{"status", status}, Entry{"reload", reload},         Entry{"open", open},
};

}  // namespace

void run(const CommandLine& line) {
  assert(line.command != nullptr);
  std::optional<std::chrono::microseconds> timeout;
  if (const auto seconds = line.value("--timeout")) timeout = parse_timeout(*seconds);
  const Output out(line);
  Client daemon(timeout);
  const Call call{line, daemon, out};
  const auto* entry = std::ranges::find(kEntries, line.command->name, &Entry::name);
  assert(entry != kEntries.end());  // the parser accepts only commands of the table
  try {
    entry->run(call);
  } catch (const client::Error& error) {
    throw failure_of(error, entry->name);
  }
}

}  // namespace portfwd::ctl
