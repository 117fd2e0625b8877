#include "ctl/commands.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "ctl/browser.h"
#include "ctl/client.h"
#include "ctl/facts_text.h"
#include "ctl/failure.h"
#include "ctl/tables.h"
#include "ctl/when.h"

namespace portfwd::ctl {
namespace {

/// How to answer: as JSON or for people, in colour or not.
class Output {
 public:
  explicit Output(const CommandLine& line) : json_(line.has("--json")), colour_(colour_wanted()) {}

  [[nodiscard]] bool json() const { return json_; }
  [[nodiscard]] bool colour() const { return colour_; }

  void document(const Json& value) const { text(dump(value, 2)); }
  void line(const Json& value) const {
    text(dump(value, -1));
    (void)std::fflush(stdout);  // a reader waits for it
  }
  void text(const std::string& lines) const {
    (void)std::fwrite(lines.data(), 1, lines.size(), stdout);
  }

 private:
  static std::string dump(const Json& value, int indent) {
    return value.dump(indent, ' ', false, Json::error_handler_t::replace) + '\n';
  }
  static bool colour_wanted() {
    const char* refused = std::getenv("NO_COLOR");  // https://no-color.org: set and not empty
    const char* term = std::getenv("TERM");
    return ::isatty(STDOUT_FILENO) && !(refused && *refused) &&
           !(term && std::strcmp(term, "dumb") == 0);
  }

  bool json_;
  bool colour_;
};

struct Call {
  const CommandLine& line;
  Client& client;
  const Output& out;
};

Json values(const std::vector<Object>& objects) {
  Json array = Json::array();
  for (const Object& object : objects) array.push_back(object.value);
  return array;
}

void show(const Call& call, const std::vector<Object>& objects,
          std::string (*table)(const std::vector<Object>&, bool)) {
  if (call.out.json()) return call.out.document(values(objects));
  call.out.text(table(objects, call.out.colour()));
  call.out.text(shortage_line(call.client.status()));
}

void list(const Call& call) {
  std::vector<Object> forwards = call.client.forwards();
  if (const auto container = call.line.value("--container")) {
    std::erase_if(forwards, [&](const Object& f) { return !in_container(f.value, *container); });
    if (forwards.empty()) {  // none, or no such container?
      const std::vector<Object> all = call.client.containers();
      static_cast<void>(pick_container(all, *container));
    }
  }
  show(call, forwards, forwards_table);
}

void containers(const Call& call) {
  std::vector<Object> found = call.client.containers();
  if (!call.line.has("--all")) {
    std::erase_if(found, [](const Object& c) {
      const bool of_interest =
          c.value["ever_listened"].get<bool>() || c.value["attached"].get<bool>();
      return c.value["engine"] == "" && !of_interest;
    });
  }
  show(call, found, containers_table);
}

void forward(const Call& call) {
  const ForwardOperand operand = parse_forward_operand(call.line.operands[1]);
  ForwardRequest request{
      .container = call.line.operands[0],
      .target = operand.target,
      .host_port = operand.host_port,
      .bind = call.line.value_or_empty("--bind"),
      .container_address = call.line.value_or_empty("--address"),
      .label = call.line.value_or_empty("--label"),
      .reverse = call.line.has("--reverse"),
      .persist = call.line.has("--persist"),
      .allow_missing = call.line.has("--allow-missing"),
  };
  if (const auto port = call.line.value("--host-port")) {
    if (request.host_port) throw Failure(Status::Usage, "the host port is given twice");
    request.host_port = parse_port_or_fail(*port);
  }
  const Object made = call.client.forward(request);
  if (call.out.json()) return call.out.document(made.value);
  if (made.value.is_null()) return;
  call.out.text(fmt::format("{}  ({}, {})\n", forward_text(made.value),
                            made.value["id"].get<std::string>(),
                            made.value["state"].get<std::string>()));
}

void unforward(const Call& call) {
  const std::vector<Object> forwards = call.client.forwards();
  const Object& ended = pick_forward(forwards, call.line.operands[0]);
  call.client.unforward(ended.path);
  if (call.out.json()) call.out.document(ended.value);
}

unsigned parse_pid(std::string_view text) {
  unsigned pid = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), pid);
  if (error != std::errc{} || end != text.data() + text.size() || pid == 0) {
    throw Failure(Status::Usage, fmt::format("'{}' is no process id", echo(text)));
  }
  return pid;
}

UniqueFd open_namespace(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (const int error = errno; !fd.valid()) {
    throw Failure(Status::Failed,
                  fmt::format("cannot open {}: {}", echo(path), std::strerror(error)));
  }
  return fd;
}

void attach(const Call& call) {
  const auto pid = call.line.value("--pid");
  const auto path = call.line.value("--netns");
  if (pid.has_value() == path.has_value()) {
    throw Failure(Status::Usage, "attach needs --pid PID or --netns PATH, one of the two");
  }
  const std::string name = call.line.value_or_empty("--name");
  const Object made = pid ? call.client.attach_pid(parse_pid(*pid), name)
                          : call.client.attach_netns(open_namespace(*path), name);
  if (call.out.json()) return call.out.document(made.value);
  if (!made.value.is_null()) call.out.text(containers_table({made}, call.out.colour()));
}

void detach(const Call& call) {
  const std::vector<Object> containers = call.client.containers();
  const Object& forgotten = pick_container(containers, call.line.operands[0]);
  call.client.detach(forgotten.path);
  if (call.out.json()) call.out.document(forgotten.value);
}

/// Since a number the daemon selects; since a time we do.
struct EventFilter {
  std::uint64_t after = 0;
  WallTime from{};

  [[nodiscard]] bool wants(const Json& event) const {
    return parse_rfc3339(event["time"].get<std::string_view>()) >= from;  // none is before any
  }
};

EventFilter parse_filter(const CommandLine& line) {
  const auto text = line.value("--since");
  if (!text) return {};
  const auto now =
      std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now());
  const auto since = parse_since(*text, now);
  if (!since) {
    throw Failure(Status::Usage,
                  fmt::format("--since: '{}' is no time; such as 2026-01-31T12:00:00Z, -5min, now "
                              "or #17",
                              echo(*text)));
  }
  if (const auto* after = std::get_if<std::uint64_t>(&*since)) return {.after = *after};
  return {.from = std::get<WallTime>(*since)};
}

void events(const Call& call) {
  const EventFilter filter = parse_filter(call.line);
  if (call.line.has("--follow")) {
    call.client.follow(filter.after, [&](const Json& event) {
      if (!filter.wants(event)) return;
      if (call.out.json()) return call.out.line(event);
      call.out.text(event_line(event, call.out.colour()));
      (void)std::fflush(stdout);
    });
  }
  Json array = Json::array();
  for (Json& event : call.client.events(filter.after)) {
    if (filter.wants(event)) array.push_back(std::move(event));
  }
  if (call.out.json()) return call.out.document(array);
  for (const Json& event : array) call.out.text(event_line(event, call.out.colour()));
}

/// A port that is not found may be missed for want of descriptors.
Json explained(Client& client, const PortOperand& asked) {
  try {
    return client.explain(asked.container, asked.target);
  } catch (const Failure& failure) {
    if (failure.status() != Status::Failed) throw;
    throw Failure(failure.status(), failure.what() + ("\n" + shortage_line(client.status())));
  }
}

void explain(const Call& call) {
  const auto& operands = call.line.operands;
  const PortOperand asked = operands.size() == 2
                                ? PortOperand{operands[0], parse_target_or_fail(operands[1])}
                                : parse_port_operand(operands[0]);
  const Json facts = explained(call.client, asked);
  if (call.out.json()) return call.out.document(facts);
  call.out.text(explanation(facts, call.out.colour()));
}

void status(const Call& call) {
  const Json facts = call.client.status();
  if (call.out.json()) return call.out.document(facts);
  call.out.text(status_text(facts, call.out.colour()));
}

void reload(const Call& call) {
  call.client.reload();
  if (call.out.json()) call.out.document({{"reloaded", true}});
}

void open(const Call& call) {
  const std::vector<Object> forwards = call.client.forwards();
  const Object& shown = pick_forward(forwards, call.line.operands[0]);
  const auto url = shown.value["url"].get<std::string>();
  open_in_browser(url);
  if (call.out.json()) call.out.document({{"url", url}});
}

struct Entry {
  std::string_view name;
  void (*run)(const Call& call);
};
constexpr std::array kEntries{
    Entry{"list", list},       Entry{"containers", containers},
    Entry{"forward", forward}, Entry{"unforward", unforward},
    Entry{"attach", attach},   Entry{"detach", detach},
    Entry{"events", events},   Entry{"explain", explain},
    Entry{"status", status},   Entry{"reload", reload},
    Entry{"open", open},
};

}  // namespace

void run(const CommandLine& line) {
  std::optional<std::chrono::microseconds> timeout;
  if (const auto seconds = line.value("--timeout")) timeout = parse_timeout(*seconds);
  const Output out(line);
  Client client(timeout);
  const Call call{line, client, out};
  for (const Entry& entry : kEntries) {
    if (entry.name == line.command->name) return entry.run(call);
  }
}

}  // namespace portfwd::ctl
