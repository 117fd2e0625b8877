#include "config/mistakes.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "base/text.h"

namespace portfwd {

std::string Place::text() const {
  return line == 0 ? file : fmt::format("{}:{}", file, line);
}

std::string Mistake::message() const {
  if (place.line == 0) return fmt::format("{}: {}", place.file, text);
  return fmt::format("{}:{}:{}: {}", place.file, place.line, place.column, text);
}

std::string text_of(const Mistakes& mistakes) {
  std::string out;
  for (const Mistake& mistake : mistakes) {
    if (!out.empty()) out += '\n';
    out += mistake.message();
  }
  return out;
}

Place place_of(const toml::source_region& region) {
  return {region.path ? *region.path : "", region.begin.line, region.begin.column};
}

void MistakeCollector::add(Place place, const std::string& text) {
  mistakes_.push_back({std::move(place), printable(text)});
}

void MistakeCollector::expect(const toml::node& value, std::string_view expected) {
  add(place_of(value.source()), fmt::format("expected {}", expected));
}

void MistakeCollector::unknown(const toml::key& name, std::string_view what,
                               std::span<const std::string_view> known) {
  const std::string_view close = nearest(name.str(), known);
  const std::string hint = close.empty() ? "" : fmt::format("; did you mean \"{}\"?", close);
  add(place_of(name.source()), fmt::format("unknown {} \"{}\"{}", what, name.str(), hint));
}

void MistakeCollector::record_place(std::string_view section, const toml::key& name) {
  places_.insert_or_assign({std::string(section), std::string(name.str())},
                           place_of(name.source()));
}

Place MistakeCollector::place_of_key(std::string_view section, std::string_view key) const {
  const auto found = places_.find({std::string(section), std::string(key)});
  return found == places_.end() ? Place{} : found->second;
}

Mistakes MistakeCollector::release_mistakes() {
  std::ranges::stable_sort(mistakes_, {}, [](const Mistake& m) {
    return std::tie(m.place.file, m.place.line, m.place.column);
  });
  return std::exchange(mistakes_, {});
}

}  // namespace portfwd
