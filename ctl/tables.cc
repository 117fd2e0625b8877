#include "ctl/tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.h"
#include "ctl/when.h"

namespace portfwd::ctl {
namespace {

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

std::string text(const Json& value) {
  return printable(value.get<std::string_view>());
}

/// As the eye counts: one column a character, which holds for all but wide scripts.
std::size_t width_of(std::string_view utf8) {
  return static_cast<std::size_t>(
      std::ranges::count_if(utf8, [](char c) { return (c & '\xc0') != '\x80'; }));
}

/// Columns as wide as their widest cell; the last column is not padded, an empty one is left out.
class Table {
 public:
  explicit Table(std::vector<std::string> head) { rows_.push_back(std::move(head)); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

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
    std::size_t owed = 0;  // blanks before the next cell, so that none end the line
    for (std::size_t c = 0; c < row.size(); ++c) {
      if (widths[c] == 0) continue;
      if (!row[c].empty()) {
        out.append(owed, ' ');
        out += shaded(row[c], colour);
        owed = 0;
      }
      owed += widths[c] - width_of(row[c]) + 2;
    }
    return out;
  }

  std::vector<std::vector<std::string>> rows_;
};

bool is_reverse(const Json& forward) {
  return forward["direction"] == "reverse";
}

/// [::1]:80, 127.0.0.1:80; both loopback addresses are "localhost".
std::string host_text(const Json& forward) {
  const Json& addresses = forward["host_addresses"];
  if (addresses.empty()) return "-";
  if (addresses.size() > 1)
    return fmt::format("localhost:{}", forward["host_port"].get<unsigned>());
  const auto address = addresses[0].get<std::string>();
  const bool v6 = address.find(':') != address.npos;
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", address, v6 ? "]" : "",
                     forward["host_port"].get<unsigned>());
}

std::string container_text(const Json& container) {
  const std::string name = text(container["name"]);
  return name.empty() ? text(container["id"]) : name;
}

std::string target_text(const Json& forward) {
  const auto port = forward["container_port"].get<unsigned>();
  return forward["protocol"] == "tcp" ? fmt::format("{}", port) : fmt::format("{}/udp", port);
}

std::string connections_text(const Json& counts) {
  return fmt::format("{}/{}", counts["active"].get<std::uint64_t>(),
                     counts["total"].get<std::uint64_t>());
}

std::string listeners_text(const Json& listeners) {
  std::string out;
  for (const Json& l : listeners) {
    if (!out.empty()) out += ' ';
    out += fmt::format("{}{}", l["port"].get<unsigned>(), l["protocol"] == "tcp" ? "" : "/udp");
  }
  return out;
}

std::string event_subject(const Json& event) {
  if (event.contains("forward")) return forward_text(event["forward"]);
  if (event.contains("container")) return container_text(event["container"]);
  return "events were lost here";
}

}  // namespace

std::string forward_text(const Json& forward) {
  return fmt::format("{} {} {}:{}", host_text(forward), is_reverse(forward) ? "<-" : "->",
                     container_text(forward["container"]), target_text(forward));
}

std::string forwards_table(const std::vector<Object>& forwards, bool colour) {
  if (forwards.empty()) return "no forwards\n";
  Table table(
      {"HOST", "CONTAINER", "PORT", "PROCESS", "STATE", "ORIGIN", "CONN", "LABEL", "ID", "NOTE"});
  for (const auto& [path, f] : forwards) {
    table.add({host_text(f) + (is_reverse(f) ? " <-" : ""), container_text(f["container"]),
               target_text(f), text(f["process"]), text(f["state"]), text(f["origin"]),
               connections_text(f["connections"]), text(f["label"]), text(f["id"]),
               text(f["reason"])});
  }
  return table.text(colour);
}

std::string containers_table(const std::vector<Object>& containers, bool colour) {
  if (containers.empty()) return "no containers\n";
  Table table({"NAME", "ENGINE", "STATE", "REACH", "PID", "LISTENS", "ID", "NOTE"});
  for (const auto& [path, c] : containers) {
    const auto pid = c["pid"].get<std::uint64_t>();
    table.add({text(c["name"]), text(c["engine"]), text(c["state"]), text(c["reach"]),
               pid == 0 ? "" : fmt::format("{}", pid), listeners_text(c["listeners"]),
               text(c["id"]), text(c["reason"])});
  }
  return table.text(colour);
}

std::string event_line(const Json& event, bool colour) {
  const auto time = parse_rfc3339(event["time"].get<std::string_view>());
  const std::string reason = text(event["reason"]);
  return fmt::format("{}  #{:<5} {}  {}{}\n", time ? local_time(*time) : "",
                     event["seq"].get<std::uint64_t>(), shaded(text(event["type"]), colour, 16),
                     event_subject(event), reason.empty() ? "" : fmt::format("  ({})", reason));
}

}  // namespace portfwd::ctl
