#include "config/not_yet.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <sstream>

namespace portfwd {

namespace {

struct NotYet {
  std::string_view section;
  std::string_view key;
  std::string_view only;  ///< the one value that may be given, as TOML writes it
};
constexpr std::array kNotYet{
    NotYet{"detect", "udp", "false"},
};

const NotYet* find(std::string_view section, std::string_view key) {
  const auto found = std::ranges::find_if(
      kNotYet, [&](const NotYet& entry) { return entry.section == section && entry.key == key; });
  return found == kNotYet.end() ? nullptr : &*found;
}

std::string as_toml(const toml::node& value) {
  std::ostringstream out;
  out << toml::toml_formatter(value, toml::format_flags::none);
  return std::move(out).str();
}

}  // namespace

bool refuse_not_yet(Complaints& complaints, std::string_view section, const toml::key& key,
                    const toml::node& value) {
  const NotYet* entry = find(section, key.str());
  if (entry == nullptr || entry->only == as_toml(value)) return false;
  complaints.expect(value, fmt::format("{}: this version knows no other value", entry->only));
  return true;
}

}  // namespace portfwd
