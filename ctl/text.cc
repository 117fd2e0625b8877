
#include "ctl/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cctype>
#include <cmath>
#include <initializer_list>
#include <optional>
#include <utility>

#include "base/text.h"
#include "ctl/when.h"

namespace portfwd::ctl {

namespace {

using client::Container;
using client::Event;
using client::Fact;
using client::Facts;
using client::Forward;

// ---- tables

constexpr std::string_view kPlain = "\x1b[0m";
constexpr std::string_view kBold = "\x1b[1m";

struct Shade {
  std::string_view word;
  std::string_view code;
};
constexpr std::array kShades{
    Shade{"active", "\x1b[32m"},       Shade{"watched", "\x1b[32m"},
    Shade{"PortAdded", "\x1b[32m"},    Shade{"ContainerAdded", "\x1b[32m"},
    Shade{"waiting", "\x1b[33m"},      Shade{"lingering", "\x1b[33m"},
    Shade{"inaccessible", "\x1b[33m"}, Shade{"ignored", "\x1b[33m"},
    Shade{"conflict", "\x1b[31m"},     Shade{"PortRemoved", "\x1b[31m"},
    Shade{"Gap", "\x1b[31m"},          Shade{"ContainerRemoved", "\x1b[31m"},
};

std::string shaded(std::string_view word, bool colour, std::size_t width = 0) {
  std::string padded = fmt::format("{:<{}}", word, width);
  const auto shade = std::ranges::find(kShades, word, &Shade::word);
  if (!colour || shade == kShades.end()) return padded;
  return fmt::format("{}{}{}", shade->code, padded, kPlain);
}

/// Width in columns of a terminal: one per character, which is wrong only for wide scripts.
std::size_t width_of(std::string_view utf8) {
  return static_cast<std::size_t>(
      std::ranges::count_if(utf8, [](char c) { return (c & '\xc0') != '\x80'; }));
}

/// Text in columns, each as wide as its widest cell. The last one is not padded, and empty ones are
/// omitted.
class Table {
 public:
  explicit Table(std::vector<std::string> head) { rows_.push_back(std::move(head)); }
  void add(std::vector<std::string> row) {
    assert(row.size() == rows_.front().size());
    rows_.push_back(std::move(row));
  }

  [[nodiscard]] std::string text(bool colour) const {
    const std::vector<std::size_t> widths = column_widths();
    std::string out;
    for (const auto& row : rows_) {
      out += colour && &row == &rows_.front()
                 ? fmt::format("{}{}{}", kBold, line(row, widths, false), kPlain)
                 : line(row, widths, colour);
      out += '\n';
    }
    return out;
  }

 private:
  [[nodiscard]] std::vector<std::size_t> column_widths() const {
    std::vector<std::size_t> widths(rows_.front().size(), 0);
    for (std::size_t r = 1; r < rows_.size(); ++r) {
      for (std::size_t c = 0; c < widths.size(); ++c) {
        widths[c] = std::max(widths[c], width_of(rows_[r][c]));
      }
    }
    for (std::size_t c = 0; c < widths.size(); ++c) {
      if (widths[c] > 0) widths[c] = std::max(widths[c], rows_.front()[c].size());
    }
    return widths;
  }

  static std::string line(const std::vector<std::string>& row,
                          const std::vector<std::size_t>& widths, bool colour) {
    std::string out;
    std::size_t blanks = 0;  // written before the next cell, so that no line ends with blanks
    for (std::size_t c = 0; c < row.size(); ++c) {
      if (widths[c] == 0) continue;
      if (!row[c].empty()) {
        out.append(blanks, ' ');
        out += shaded(row[c], colour);
        blanks = 0;
      }
      blanks += widths[c] - width_of(row[c]) + 2;
    }
    return out;
  }

  std::vector<std::vector<std::string>> rows_;
};

/// "[::1]:80" or "127.0.0.1:80"; "localhost:80" for both loopback addresses; or the path of a
/// socket.
std::string host_text(const Forward& forward) {
  if (!forward.host_path.empty()) return printable(forward.host_path);
  const auto& addresses = forward.host_addresses;
  if (addresses.empty()) return "-";
  if (addresses.size() > 1) return fmt::format("localhost:{}", forward.host_port);
  const bool v6 = addresses[0].find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", addresses[0], v6 ? "]" : "", forward.host_port);
}

std::string name_or_id(const std::string& name, const std::string& id) {
  return printable(name.empty() ? id : name);
}

std::string port_text(Port port, std::string_view protocol) {
  return fmt::format("{}{}", port, protocol == "tcp" ? "" : "/udp");
}

constexpr std::size_t kShownSockets = 4;  // of the Unix sockets of a container, in a table

/// The ports, then the first Unix sockets.
std::string listeners_text(const std::vector<client::Listener>& listeners) {
  std::string out;
  std::size_t sockets = 0;
  for (const client::Listener& l : listeners) {
    if (!l.path.empty() && ++sockets > kShownSockets) continue;
    out +=
        fmt::format("{}{}", out.empty() ? "" : " ",
                    l.path.empty() ? port_text(l.port, l.protocol) : "unix:" + printable(l.path));
  }
  if (sockets > kShownSockets) out += fmt::format(" (+{})", sockets - kShownSockets);
  return out;
}

std::string event_subject(const Event& event) {
  if (const auto* forward = std::get_if<Forward>(&event.subject)) return forward_text(*forward);
  if (const auto* container = std::get_if<Container>(&event.subject)) {
    return name_or_id(container->name, container->id);
  }
  return "events were lost here";
}

// ---- facts

struct Unit {
  std::string_view ending;
  std::string (*text)(double value);
};
constexpr std::array kUnits{
    Unit{"_bytes", bytes_text},
    Unit{"_usec", [](double usec) { return span_text(usec / 1e6); }},
    Unit{"_seconds", span_text},
};

std::optional<double> number_of(const Fact& fact) {
  if (const auto* value = std::get_if<double>(&fact)) return *value;
  if (const auto* value = std::get_if<std::int64_t>(&fact)) return static_cast<double>(*value);
  if (const auto* value = std::get_if<std::uint64_t>(&fact)) return static_cast<double>(*value);
  return {};
}

/// A fact for display. A row without lines is not shown.
struct Row {
  std::string label;
  std::vector<std::string> lines;
};

std::vector<std::string> lines_of(const Fact& fact) {
  if (const auto* list = std::get_if<std::vector<std::string>>(&fact)) {
    std::vector<std::string> lines;
    for (const std::string& line : *list) lines.push_back(printable(line));
    return lines;
  }
  if (const auto* text = std::get_if<std::string>(&fact)) {
    return text->empty() ? std::vector<std::string>{} : std::vector{printable(*text)};
  }
  if (const auto* is_so = std::get_if<bool>(&fact)) return {*is_so ? "yes" : "no"};
  if (const auto* value = std::get_if<double>(&fact)) return {fmt::format("{:.6g}", *value)};
  if (const auto* value = std::get_if<std::int64_t>(&fact)) return {fmt::format("{}", *value)};
  if (const auto* value = std::get_if<std::uint64_t>(&fact)) return {fmt::format("{}", *value)};
  return {};
}

Row row_of(std::string_view key, const Fact& fact) {
  Row row{.lines = lines_of(fact)};
  if (const auto number = number_of(fact)) {
    const auto unit =
        std::ranges::find_if(kUnits, [key](const Unit& u) { return key.ends_with(u.ending); });
    if (unit != kUnits.end()) {
      key.remove_suffix(unit->ending.size());
      row.lines = {unit->text(*number)};
    }
  }
  row.label = printable(key);
  std::ranges::replace(row.label, '_', ' ');
  return row;
}

using Keys = std::initializer_list<std::string_view>;

/// Rows of the facts in `first` that exist, in this order, then of all others by key, except
/// `hidden`.
std::vector<Row> rows_of(const Facts& facts, Keys first, Keys hidden) {
  std::vector<Row> rows;
  for (const std::string_view key : first) {
    if (const auto at = facts.find(key); at != facts.end()) rows.push_back(row_of(key, at->second));
  }
  const auto is_in = [](Keys keys, std::string_view key) {
    return std::ranges::find(keys, key) != keys.end();
  };
  for (const auto& [key, fact] : facts) {
    if (!is_in(first, key) && !is_in(hidden, key)) rows.push_back(row_of(key, fact));
  }
  std::erase_if(rows, [](const Row& row) { return row.lines.empty(); });
  return rows;
}

/// Labels and values in two columns. A list has one line per item.
std::string layout(const std::vector<Row>& rows, bool colour) {
  std::size_t widest = 0;
  for (const Row& row : rows) widest = std::max(widest, row.label.size());
  std::string out;
  for (const auto& [label, lines] : rows) {
    out += fmt::format("{}{:<{}}{}", colour ? kBold : "", label, widest, colour ? kPlain : "");
    for (const std::string& line : lines) {
      out += fmt::format("{:{}}{}\n", "", &line == &lines.front() ? 2 : widest + 2, line);
    }
  }
  return out;
}

/// Three significant digits: 7.5, 12.3, 123.
std::string three_digits(double value) {
  return fmt::format("{:.3g}", value);
}

}  // namespace

std::string forward_text(const Forward& f) {
  return fmt::format("{} {} {}:{}", host_text(f), f.is_reverse() ? "<-" : "->",
                     name_or_id(f.container_name, f.container_id), printable(f.target));
}

std::string forwards_table(const std::vector<Forward>& forwards, bool colour) {
  if (forwards.empty()) return "no forwards\n";
  Table table(
      {"HOST", "CONTAINER", "PORT", "PROCESS", "STATE", "ORIGIN", "CONN", "LABEL", "ID", "NOTE"});
  for (const Forward& f : forwards) {
    table.add({host_text(f) + (f.is_reverse() ? " <-" : ""),
               name_or_id(f.container_name, f.container_id), printable(f.target),
               printable(f.process), printable(f.state), printable(f.origin),
               fmt::format("{}/{}", f.connections_active, f.connections_total), printable(f.label),
               printable(f.id), printable(f.reason)});
  }
  return table.text(colour);
}

std::string containers_table(const std::vector<Container>& containers, bool colour) {
  if (containers.empty()) return "no containers\n";
  Table table({"NAME", "ENGINE", "STATE", "REACH", "PID", "LISTENS", "ID", "NOTE"});
  for (const Container& c : containers) {
    table.add({printable(c.name), printable(c.engine), printable(c.state), printable(c.reach),
               c.pid == 0 ? "" : fmt::format("{}", c.pid), listeners_text(c.listeners),
               printable(c.id), printable(c.reason)});
  }
  return table.text(colour);
}

std::string event_line(const Event& event, bool colour) {
  const std::string reason = printable(event.reason);
  return fmt::format("{}  #{:<5} {}  {}{}\n", local_time(event.time), event.seq,
                     shaded(printable(event.type), colour, 16), event_subject(event),
                     reason.empty() ? "" : fmt::format("  ({})", reason));
}

std::string bytes_text(double bytes) {
  constexpr std::array kNames{"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t step = 0;
  for (; bytes >= 1024 && step + 1 < kNames.size(); ++step) bytes /= 1024;
  return fmt::format("{:.4g} {}", bytes, kNames[step]);
}

std::string span_text(double seconds) {
  if (seconds < 1e-3) return three_digits(seconds * 1e6) + " µs";
  if (seconds < 1) return three_digits(seconds * 1e3) + " ms";
  if (seconds < 60) return three_digits(seconds) + " s";
  const auto minutes = static_cast<std::uint64_t>(std::llround(seconds)) / 60;
  if (minutes < 60) return fmt::format("{} min {} s", minutes, std::llround(seconds) % 60);
  if (minutes < 48 * 60) return fmt::format("{} h {} min", minutes / 60, minutes % 60);
  return fmt::format("{} d {} h", minutes / 1440, minutes / 60 % 24);
}

namespace {

/// How portfwdctl words a remedy: a text, and a command line that follows it. Both are format
/// strings for the arguments of the code.
struct RemedyWords {
  RemedyCode code;
  std::string_view text;  ///< empty: the sentence of the daemon
  std::string_view command = {};
};

/// In the order of the codes.
constexpr std::array<RemedyWords, kRemedyCodes> kRemedyWords{{
    {RemedyCode::StartServer, ""},
    {RemedyCode::StartContainer, ""},
    {RemedyCode::AttachContainer, "attach it by the pid of a process in it with",
     "portfwdctl attach --pid PID --name {}"},
    {RemedyCode::AttachProcess, "attach it with", "portfwdctl attach --pid {} --name {}"},
    {RemedyCode::MakeAccessible, ""},
    {RemedyCode::MakeReachable, ""},
    {RemedyCode::LeaveHostNetwork, "start the container without --network=host"},
    {RemedyCode::SetLoopbackUp, ""},
    {RemedyCode::SetInterfaceUp, ""},
    {RemedyCode::CheckServer, ""},
    {RemedyCode::ExplainPort, "see", "portfwdctl explain {} {}"},
    {RemedyCode::ExplainAgain, "run this command again in a moment"},
    {RemedyCode::ForwardPort, "forward it with", "portfwdctl forward {} {}"},
    {RemedyCode::HoldPort, "hold the port with", "portfwdctl forward {} {}"},
    {RemedyCode::HoldPortForMissing, "hold the port with",
     "portfwdctl forward {} {} --allow-missing"},
    {RemedyCode::EndForward, "end the forward with", "portfwdctl unforward {}"},
    {RemedyCode::UseHostPort, ""},
    {RemedyCode::FreeHostPort, ""},
    {RemedyCode::FreeContainerPort, ""},
    {RemedyCode::ChooseHostPort, ""},
    {RemedyCode::ChooseBindAddress, ""},
    {RemedyCode::ChangeConfiguration, ""},
    {RemedyCode::ChangeDeclaration, ""},
    {RemedyCode::IgnorePort, ""},
    {RemedyCode::IncludeSocket, ""},
    {RemedyCode::SkipSettle, ""},
    {RemedyCode::AllowFallback, ""},
    {RemedyCode::WidenFallbackRange, ""},
    {RemedyCode::RaiseMaxForwards, ""},
    {RemedyCode::RaiseMaxSockets, ""},
    {RemedyCode::AllowRemote, "set allow_remote = true in [host] of config.toml, then run",
     "portfwdctl reload"},
    {RemedyCode::RaiseDescriptorLimit, ""},
    {RemedyCode::LowerUnprivilegedPort, ""},
}};
static_assert(has_each_remedy(kRemedyWords));

/// A word of a command line, quoted if a shell would not take it literally.
std::string shell_word(std::string_view word) {
  constexpr std::string_view kLiteral = "_@%+=:,./-";
  const bool literal = !word.empty() && std::ranges::all_of(word, [&](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || kLiteral.contains(c);
  });
  if (literal) return std::string(word);
  std::string out = "'";
  for (const char c : word) c == '\'' ? out += "'\\''" : out += c;
  return out + "'";
}

std::string words_of(RemedyCode code, std::vector<std::string> arguments) {
  const RemedyWords& words = kRemedyWords[static_cast<std::size_t>(code)];
  for (std::string& argument : arguments) argument = printable(argument);
  if (words.command.empty()) {
    return with_arguments(words.text.empty() ? row_of(code).sentence : words.text, arguments);
  }
  for (std::string& argument : arguments) argument = shell_word(argument);
  return fmt::format("{} `{}`", words.text, with_arguments(words.command, arguments));
}

}  // namespace

std::string remedy_text(const client::Explanation& explanation) {
  std::string out;
  for (const client::Remedy& remedy : explanation.remedies) {
    if (!remedy.code) return explanation.remedy;
    if (!out.empty()) out += ", or ";
    out += words_of(*remedy.code, remedy.arguments);
  }
  return out.empty() ? explanation.remedy : out;
}

std::string explanation_text(const client::Explanation& explanation, bool colour) {
  const std::string summary =
      explanation.summary.empty() ? "" : printable(explanation.summary) + "\n";
  Facts facts = explanation.facts;
  facts["remedy"] = remedy_text(explanation);
  return summary +
         layout(rows_of(facts, {"seen", "rules", "decision", "tried", "host", "reach", "remedy"},
                        {"summary", "forwarded", "container", "port", "protocol", "target"}),
                colour);
}

std::string status_text(const client::Status& status, bool colour) {
  return layout(rows_of(status.facts, {"version", "uptime_seconds", "containers", "forwards"}, {}),
                colour);
}

std::string shortage_line(const client::Status& status) {
  const std::string& shortage = status.descriptor_shortage;
  if (shortage.empty() || shortage == "none") return "";
  const std::string& remedy = status.descriptor_remedy;
  return fmt::format("the daemon is short of file descriptors ({}){}{}\n", printable(shortage),
                     remedy.empty() ? "" : ": ", printable(remedy));
}

namespace {

template <class Object>
Json object_json(const Object& object);

template <class T>
Json value_json(const T& value) {
  return value;
}

Json value_json(WallTime time) {
  return rfc3339(time);
}

template <class Row>
requires requires(const Row& row) {
  client::fields_of(row);
}
Json value_json(const std::vector<Row>& rows) {
  Json array = Json::array();
  for (const Row& row : rows) array.push_back(object_json(row));
  return array;
}

/// The place of a key, where "container.id" is `id` in the object `container`.
Json& place(Json& object, std::string_view key) {
  const std::size_t dot = key.find('.');
  if (dot == key.npos) return object[std::string(key)];
  return place(object[std::string(key.substr(0, dot))], key.substr(dot + 1));
}

template <class Object>
Json object_json(const Object& object) {
  Json out = Json::object();
  client::for_each_field(object, [&](const auto& field, const auto& value) {
    place(out, field.key) = value_json(value);
  });
  return out;
}

}  // namespace

Json to_json(const client::Forward& forward) {
  return object_json(forward);
}

Json to_json(const client::Container& container) {
  return object_json(container);
}

Json to_json(const client::Event& event) {
  Json out = {{"seq", event.seq},
              {"time", rfc3339(event.time)},
              {"type", event.type},
              {"reason", event.reason}};
  if (const auto* forward = std::get_if<client::Forward>(&event.subject)) {
    out["forward"] = to_json(*forward);
  }
  if (const auto* container = std::get_if<client::Container>(&event.subject)) {
    Json& object = out["container"] = to_json(*container);
    for (const char* list : {"labels", "listeners", "listeners_total", "published"}) {
      object.erase(list);  // events do not have these properties
    }
  }
  return out;
}

Json to_json(const client::Facts& facts) {
  Json out = Json::object();
  for (const auto& [key, fact] : facts) {
    out[key] = std::visit(
        [](const auto& value) {
          if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::monostate>) {
            return Json(nullptr);  // a type of a newer daemon
          } else {
            return Json(value);
          }
        },
        fact);
  }
  return out;
}

Json to_json(const client::Explanation& explanation) {
  Json out = to_json(explanation.facts);
  out["remedy"] = remedy_text(explanation);
  Json& remedies = out["remedies"] = Json::array();
  for (const client::Remedy& remedy : explanation.remedies) {
    remedies.push_back(Json{{"code", remedy.name}, {"arguments", remedy.arguments}});
  }
  return out;
}

namespace {

constexpr std::string_view kStartHint = "start it with `systemctl --user start portfwd`";

/// What to do when no daemon answers: it was too slow, it could not be started, or it does not run.
std::string_view no_answer_hint(std::string_view error) {
  constexpr std::array<std::string_view, 3> kTimeouts{"org.freedesktop.DBus.Error.Timeout",
                                                      "org.freedesktop.DBus.Error.TimedOut",
                                                      "System.Error.ETIMEDOUT"};
  if (std::ranges::find(kTimeouts, error) != kTimeouts.end()) {
    return "wait longer with --timeout, or restart it with `systemctl --user restart portfwd`";
  }
  if (error.starts_with("org.freedesktop.DBus.Error.Spawn.") ||
      error.starts_with("org.freedesktop.systemd1.")) {
    return "`systemctl --user status portfwd` tells why";
  }
  return kStartHint;
}

/// A hint for a refusal, which the daemon words without command lines.
struct Hint {
  std::string_view error;    ///< name of the D-Bus error
  std::string_view command;  ///< empty for any
  std::string_view text;
};
/// The first row that matches applies.
constexpr std::array kHints{
    Hint{"org.portfwd1.Error.NoSuchForward", "", "`portfwdctl list` shows the forwards"},
    Hint{"org.portfwd1.Error.NoSuchContainer", "explain",
         "`portfwdctl containers --all` shows all containers, also those that cannot be entered"},
    Hint{"org.portfwd1.Error.NoSuchContainer", "",
         "`portfwdctl containers --all` shows all containers, `portfwdctl attach` adds one"},
    Hint{"org.portfwd1.Error.LimitExceeded", "forward",
         "`portfwdctl list` shows the forwards, `portfwdctl unforward` ends one"},
};

std::string refusal_text(const client::Error& error, std::string_view command) {
  const auto* hint = std::ranges::find_if(kHints, [&](const Hint& h) {
    return h.error == error.name() && (h.command.empty() || h.command == command);
  });
  if (hint == kHints.end()) return error.what();
  return fmt::format("{}; {}", error.what(), hint->text);
}

}  // namespace

std::string echo(std::string_view word) {
  constexpr std::size_t kMaxBytes = 64;
  return printable(word, kMaxBytes) + (word.size() > kMaxBytes ? "…" : "");
}

Failure failure_of(const client::Error& error, std::string_view command) {
  switch (error.kind()) {
    case client::Error::Kind::NoBus:
      return {Status::NoDaemon,
              fmt::format("cannot connect to the session bus: {}; check DBUS_SESSION_BUS_ADDRESS",
                          error.what())};
    case client::Error::Kind::NoAnswer:
      return {Status::NoDaemon, fmt::format("the daemon does not answer: {}; {}", error.what(),
                                            no_answer_hint(error.name()))};
    case client::Error::Kind::NotUtf8:
      return {Status::Usage, fmt::format("'{}' is not UTF-8; give UTF-8, or the id of a container",
                                         echo(error.what()))};
    case client::Error::Kind::Refused:
      return {Status::Failed, refusal_text(error, command)};
  }
  std::unreachable();
}

Failure daemon_lost() {
  return {Status::NoDaemon, fmt::format("lost the connection to the daemon; {}", kStartHint)};
}

}  // namespace portfwd::ctl
