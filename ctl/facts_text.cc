#include "ctl/facts_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <vector>

#include "base/text.h"
#include "ctl/tables.h"

namespace portfwd::ctl {
namespace {

struct Unit {
  std::string_view ending;
  std::string (*text)(double value);
};
constexpr std::array kUnits{
    Unit{"_bytes", bytes_text},
    Unit{"_usec", [](double usec) { return span_text(usec / 1e6); }},
    Unit{"_seconds", span_text},
};

const Unit* unit_of(std::string_view key, const Json& value) {
  if (!value.is_number()) return nullptr;
  const auto found =
      std::ranges::find_if(kUnits, [key](const Unit& u) { return key.ends_with(u.ending); });
  return found == kUnits.end() ? nullptr : &*found;
}

struct Fact {
  std::string label;
  std::vector<std::string> lines;
};

std::string item_text(const Json& value) {
  if (value.is_string()) return printable(value.get<std::string_view>());
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  return value.dump();
}

Fact fact_of(const std::string& key, const Json& value) {
  const Unit* unit = unit_of(key, value);
  Fact fact{printable(key.substr(0, key.size() - (unit ? unit->ending.size() : 0))), {}};
  std::ranges::replace(fact.label, '_', ' ');
  if (unit) {
    fact.lines = {unit->text(value.get<double>())};
  } else if (value.is_array()) {
    for (const Json& item : value) fact.lines.push_back(item_text(item));
  } else if (const std::string text = item_text(value); !text.empty()) {
    fact.lines = {text};
  }
  return fact;
}

/// Those of `first` that are there, in this order, then the others as they come, less `never`.
std::vector<Fact> facts_in_order(const Json& facts, std::initializer_list<std::string> first,
                                 std::initializer_list<std::string> never) {
  std::vector<Fact> ordered;
  for (const std::string& key : first) {
    if (facts.contains(key)) ordered.push_back(fact_of(key, facts[key]));
  }
  const auto named = [&](const std::string& key) {
    return std::ranges::find(first, key) != first.end() ||
           std::ranges::find(never, key) != never.end();
  };
  for (const auto& [key, value] : facts.items()) {
    if (!named(key)) ordered.push_back(fact_of(key, value));
  }
  std::erase_if(ordered, [](const Fact& fact) { return fact.lines.empty(); });
  return ordered;
}

/// Label and value side by side, a list one item a line.
std::string layout(const std::vector<Fact>& facts, bool colour) {
  std::size_t widest = 0;
  for (const Fact& fact : facts) widest = std::max(widest, fact.label.size());
  std::string out;
  for (const auto& [label, lines] : facts) {
    out +=
        fmt::format("{}{:<{}}{}", colour ? "\x1b[1m" : "", label, widest, colour ? "\x1b[0m" : "");
    for (const std::string& line : lines) {
      out += fmt::format("{:{}}{}\n", "", &line == &lines.front() ? 2 : widest + 2, line);
    }
  }
  return out;
}

/// Three figures: 7.5, 12.3, 123.
std::string figures(double value) {
  return fmt::format("{:.3g}", value);
}

}  // namespace

std::string bytes_text(double bytes) {
  constexpr std::array kNames{"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t step = 0;
  for (; bytes >= 1024 && step + 1 < kNames.size(); ++step) bytes /= 1024;
  return fmt::format("{:.4g} {}", bytes, kNames[step]);
}

std::string span_text(double seconds) {
  if (seconds < 1e-3) return figures(seconds * 1e6) + " µs";
  if (seconds < 1) return figures(seconds * 1e3) + " ms";
  if (seconds < 60) return figures(seconds) + " s";
  const auto minutes = static_cast<std::uint64_t>(std::llround(seconds)) / 60;
  if (minutes < 60) return fmt::format("{} min {} s", minutes, std::llround(seconds) % 60);
  if (minutes < 48 * 60) return fmt::format("{} h {} min", minutes / 60, minutes % 60);
  return fmt::format("{} d {} h", minutes / 1440, minutes / 60 % 24);
}

std::string explanation(const Json& facts, bool colour) {
  const std::string summary = facts.contains("summary") ? item_text(facts["summary"]) + "\n" : "";
  return summary +
         layout(facts_in_order(facts,
                               {"seen", "rules", "decision", "tried", "host", "reach", "remedy"},
                               {"summary", "forwarded", "container", "port", "protocol", "target"}),
                colour);
}

std::string status_text(const Json& facts, bool colour) {
  return layout(facts_in_order(facts, {"version", "uptime_seconds", "containers", "forwards"}, {}),
                colour);
}

std::string shortage_line(const Json& status) {
  const std::string shortage = status.value("descriptor_shortage", "none");
  if (shortage == "none") return "";
  const std::string remedy = status.value("descriptor_remedy", "");
  return fmt::format("the daemon is short of file descriptors ({}){}{}\n", printable(shortage),
                     remedy.empty() ? "" : ": ", printable(remedy));
}

}  // namespace portfwd::ctl
