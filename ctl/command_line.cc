#include "ctl/command_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cctype>
#include <charconv>
#include <cmath>
#include <utility>

#include "base/text.h"
#include "ctl/text.h"

namespace portfwd::ctl {
namespace {

constexpr std::array kGlobal{
    Option{"--json", "", "print one JSON document (events --follow: one object a line)"},
    Option{"--timeout", "SECONDS", "set the timeout of a call in seconds (default 25)"},
    Option{"--help", "", "show this help, or the help of a command"},
    Option{"--version", "", "show the version"},
};

constexpr std::array kList{
    Option{"--container", "CONTAINER", "show only the forwards of this container"}};
constexpr std::array kContainers{
    Option{"--all", "", "include containers without an engine that never had a listener"}};
constexpr std::array kForward{
    Option{"--host-port", "HOSTPORT", "use this host port or fail"},
    Option{"--host", "PLACE", "listen at this place on the host: unix:/PATH or a port",
           Offer::Words, "unix:/"},
    Option{"--mode", "MODE", "set the permission bits of the socket on the host (default 0600)"},
    Option{"--owner", "OWNER", "set the owner of the socket on the host: UID:GID"},
    Option{"--create-parents", "", "make the missing folders of the socket's path"},
    Option{"--pass-fds", "", "pass on the descriptors that programs send through the socket"},
    Option{"--as", "UID", "connect to the socket in the container as this user there"},
    Option{"--bind", "ADDR", "listen on localhost (both loopback addresses) or on one address",
           Offer::Words, "localhost 127.0.0.1 ::1"},
    Option{"--label", "TEXT", "set a label, which list shows"},
    Option{"--address", "ADDR", "connect to this address in the container"},
    Option{"--reverse", "", "listen in the container and connect to the host"},
    Option{"--persist", "", "keep the forward when the container or the daemon ends"},
    Option{"--allow-missing", "", "accept a container that does not exist yet"},
};
constexpr std::array kShare{
    Option{"--at", "PATH", "use this path in the container, or @NAME (default in /run/portfwd)"},
    Option{"--owner", "OWNER",
           "set its owner there, UID:GID (default: that of the container's program)"},
    Option{"--mode", "MODE", "set its permission bits (default 0600)"},
    Option{"--create-parents", "", "make the missing folders of PATH"},
    Option{"--pass-fds", "", "pass on the descriptors that programs send through the socket"},
    Option{"--persist", "", "keep it when the container or the daemon ends"},
    Option{"--allow-missing", "", "accept a container that does not exist yet"},
};
constexpr std::array kAttach{
    Option{"--pid", "PID", "add the container of this process", Offer::Processes, "", "--netns"},
    Option{"--netns", "PATH", "add this network namespace, such as /run/netns/NAME", Offer::Files,
           "", "--pid"},
    Option{"--name", "NAME", "set the name of the container"},
};
constexpr std::array kEvents{
    Option{"--since", "WHEN", "start at a time (RFC 3339, -5min, now) or after event #17",
           Offer::Words, "now -5min -1h"},
    Option{"--follow", "", "continue with new events as they happen"},
};

constexpr std::array kCommands{
    Command{"list", "", 0, 0, "show the forwards", kList},
    Command{"containers", "", 0, 0, "show the containers, and why some cannot be entered",
            kContainers},
    Command{"forward", "CONTAINER TARGET[:HOSTPORT]", 2, 2,
            "forward a port of a container, such as 8080 or 53/udp, or a socket, unix:/PATH",
            kForward},
    Command{"share", "CONTAINER (PRESET | unix:PATH)", 2, 2,
            "show a socket of the host in a container: dbus, docker, gpg-agent, pipewire, podman, "
            "pulse, ssh-agent, wayland, or any by its path",
            kShare},
    Command{"unforward",
            "FORWARD",
            1,
            1,
            "end a forward, given its id, host port or CONTAINER:TARGET",
            {}},
    Command{"attach", "(--pid PID | --netns PATH)", 0, 0,
            "add a container that portfwd does not find itself", kAttach},
    Command{"detach", "CONTAINER", 1, 1, "remove a container and end its forwards", {}},
    Command{"events", "", 0, 0, "show recent events, at most the last 1000", kEvents},
    Command{"explain", "[CONTAINER] TARGET", 1, 2, "explain why a port is or is not forwarded", {}},
    Command{"status", "", 0, 0, "show the status of the daemon", {}},
    Command{"reload", "", 0, 0, "read the configuration again", {}},
    Command{"open", "FORWARD", 1, 1, "open a forward in the browser (xdg-open)", {}},
};

/// Parses one command line: the remaining words, and the result so far.
class Parser {
 public:
  explicit Parser(std::span<const std::string_view> arguments) : left_(arguments) {}

  CommandLine parse() {
    while (!left_.empty()) {
      const std::string_view word = next_word();
      if (word == "--" && !options_over_) {
        options_over_ = true;
      } else if (word.starts_with("-") && word != "-" && !options_over_) {
        option(word == "-h" ? "--help" : word);
      } else {
        operand(word);
      }
    }
    check();
    return std::move(line_);
  }

 private:
  std::string_view next_word() {
    const std::string_view word = left_.front();
    left_ = left_.subspan(1);
    return word;
  }

  [[noreturn]] void fail(const std::string& what) const {
    const std::string_view command = line_.command ? line_.command->name : "";
    throw Failure(Status::Usage, fmt::format("{}; see `portfwdctl {}{}--help`", what, command,
                                             command.empty() ? "" : " "));
  }

  void operand(std::string_view word) {
    if (line_.command) {
      line_.operands.emplace_back(word);
      return;
    }
    const auto found = std::ranges::find(kCommands, word, &Command::name);
    if (found == kCommands.end()) fail(unknown("command", word, names_of(kCommands)));
    line_.command = &*found;
  }

  void option(std::string_view word) {
    const std::size_t equals = word.find('=');
    const std::string_view name = word.substr(0, equals);
    const Option& known = find_option(name);
    const bool inline_value = equals != word.npos;
    if (known.value.empty()) {
      if (inline_value) fail(fmt::format("{} takes no value", name));
      line_.options[std::string(name)] = "";
      return;
    }
    if (!inline_value && left_.empty()) fail(fmt::format("{} needs {}", name, known.value));
    line_.options[std::string(name)] = inline_value ? word.substr(equals + 1) : next_word();
  }

  const Option& find_option(std::string_view name) const {
    const std::span<const Option> own =
        line_.command ? line_.command->options : std::span<const Option>{};
    for (const std::span<const Option> options : {own, std::span<const Option>(kGlobal)}) {
      const auto found = std::ranges::find(options, name, &Option::name);
      if (found != options.end()) return *found;
    }
    std::vector<std::string_view> names = names_of(own);
    std::ranges::copy(names_of(kGlobal), std::back_inserter(names));
    fail(unknown("option", name, names));
  }

  void check() const {
    if (line_.has("--help") || line_.has("--version")) return;
    if (const auto seconds = line_.value("--timeout")) static_cast<void>(parse_timeout(*seconds));
    if (!line_.command) fail("no command given");
    const Command& command = *line_.command;
    if (line_.operands.size() < command.min_operands) {
      fail(fmt::format("{} needs {}", command.name, command.operands));
    }
    if (line_.operands.size() > command.max_operands) {
      fail(fmt::format("{}: unexpected argument '{}'", command.name,
                       echo(line_.operands[command.max_operands])));
    }
  }

  template <class Range>
  static std::vector<std::string_view> names_of(const Range& entries) {
    std::vector<std::string_view> names;
    for (const auto& entry : entries) names.push_back(entry.name);
    return names;
  }

  static std::string unknown(std::string_view what, std::string_view word,
                             std::span<const std::string_view> known) {
    const std::string_view meant = nearest(word, known);
    return fmt::format("unknown {} '{}'{}", what, echo(word),
                       meant.empty() ? "" : fmt::format(" (did you mean '{}'?)", meant));
  }

  std::span<const std::string_view> left_;
  CommandLine line_;
  bool options_over_ = false;
};

std::string option_lines(std::span<const Option> options) {
  std::string out;
  for (const Option& o : options) {
    out += fmt::format("  {:<22} {}\n",
                       fmt::format("{}{}{}", o.name, o.value.empty() ? "" : " ", o.value), o.help);
  }
  return out;
}

}  // namespace

std::span<const Command> commands() {
  return kCommands;
}
std::span<const Option> global_options() {
  return kGlobal;
}

std::optional<std::string> CommandLine::value(std::string_view option) const {
  const auto at = options.find(option);
  return at == options.end() ? std::nullopt : std::optional(at->second);
}

CommandLine parse_command_line(std::span<const std::string_view> arguments) {
  return Parser(arguments).parse();
}

std::chrono::microseconds parse_timeout(std::string_view seconds) {
  constexpr double kLongest = 86400;
  double value = 0;
  const char* end = seconds.data() + seconds.size();
  const auto [stop, error] = std::from_chars(seconds.data(), end, value);
  if (error != std::errc{} || stop != end || !(value >= 1e-6 && value <= kLongest)) {
    throw Failure(Status::Usage,
                  fmt::format("--timeout needs seconds, such as 2.5, at most 86400, not '{}'",
                              echo(seconds)));
  }
  return std::chrono::microseconds(std::llround(value * 1e6));
}

std::string help() {
  std::string out =
      "Usage: portfwdctl [--json] [--timeout SECONDS] COMMAND …\n"
      "Inspect and manage the forwards of portfwd, the daemon that makes ports of containers "
      "reachable\non the host's loopback.\n\nCommands:\n";
  for (const Command& c : kCommands) {
    out += fmt::format("  {:<12} {}\n", c.name, c.help);
  }
  return out + "\nOptions:\n" + option_lines(kGlobal) +
         "\nRun `portfwdctl COMMAND --help` for the options of a command. See portfwdctl(1).\n";
}

std::string help(const Command& command) {
  assert(!command.help.empty());
  std::string out = fmt::format(
      "Usage: portfwdctl {}{}{}{}\n{}{}.\n", command.name, command.operands.empty() ? "" : " ",
      command.operands, command.options.empty() ? "" : " [OPTION …]",
      static_cast<char>(std::toupper(command.help[0])), command.help.substr(1));
  if (!command.options.empty()) out += "\n" + option_lines(command.options);
  return out;
}

}  // namespace portfwd::ctl
