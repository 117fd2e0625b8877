#include "config/config_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <functional>
#include <limits>
#include <sstream>

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include "base/error.h"
#include "config/value_parsers.h"

namespace portfwd {

namespace {

/// Collects mistakes, each at the place of the value that caused it.
class Reader {
 public:
  Reader(std::string_view file, Settings& settings) : file_(file), settings_(settings) {}

  void read(const toml::table& root);
  void complain(const toml::source_region& where, std::string text) {
    mistakes_.push_back({file_, where.begin.line, where.begin.column, std::move(text)});
  }
  void expect(const toml::node& value, std::string_view expected) {
    complain(value.source(), fmt::format("expected {}", expected));
  }
  [[nodiscard]] Settings& settings() { return settings_; }
  [[nodiscard]] Mistakes take() { return std::move(mistakes_); }

 private:
  void read_table(std::string_view section, const toml::table& table);

  std::string file_;
  Settings& settings_;
  Mistakes mistakes_;
};

using Apply = void (*)(Reader&, const toml::node&);

struct Key {
  std::string_view section;
  std::string_view name;
  Apply apply;
};

void read_duration(Reader& r, const toml::node& value, Duration& out) {
  const auto text = value.value<std::string_view>();
  const auto parsed = value.is_string() ? parse_duration(*text) : std::nullopt;
  if (!parsed) return r.expect(value, "a duration such as \"250ms\", \"2s\" or \"1min\"");
  out = *parsed;
}

void read_interval(Reader& r, const toml::node& value, Duration& out) {
  Duration read{};
  read_duration(r, value, read);
  if (read < std::chrono::milliseconds(1)) return r.expect(value, "a duration of at least \"1ms\"");
  out = read;
}

void read_bool(Reader& r, const toml::node& value, bool& out) {
  if (!value.is_boolean()) return r.expect(value, "true or false");
  out = *value.value<bool>();
}

void read_count(Reader& r, const toml::node& value, unsigned& out) {
  const auto number = value.value<std::int64_t>();
  if (!value.is_integer() || *number < 0 || *number > std::numeric_limits<int>::max()) {
    return r.expect(value, "a whole number, 0 or more");
  }
  out = static_cast<unsigned>(*number);
}

std::optional<PortRange> port_range_of(const toml::node& value) {
  if (value.is_integer()) return parse_port_range(std::to_string(*value.value<std::int64_t>()));
  if (value.is_string()) return parse_port_range(*value.value<std::string_view>());
  return std::nullopt;
}

constexpr std::string_view kPortList = "a list of ports and ranges such as [22, \"5000-6000\"]";

void read_ranges(Reader& r, const toml::node& value, std::vector<PortRange>& out) {
  const toml::array* list = value.as_array();
  if (list == nullptr) return r.expect(value, kPortList);
  std::vector<PortRange> read;
  for (const toml::node& entry : *list) {
    const auto range = port_range_of(entry);
    if (!range) return r.expect(entry, "a port (1-65535) or a range such as \"5000-6000\"");
    read.push_back(*range);
  }
  out = std::move(read);
}

void read_addresses(Reader& r, const toml::node& value, std::vector<IpAddress>& out) {
  const toml::array* list = value.as_array();
  if (list == nullptr) return r.expect(value, "a list of addresses such as [\"127.0.0.11\"]");
  std::vector<IpAddress> read;
  for (const toml::node& entry : *list) {
    const auto text = entry.value<std::string_view>();
    const auto address = entry.is_string() ? IpAddress::parse(*text) : std::nullopt;
    if (!address) return r.expect(entry, "an IPv4 or IPv6 address");
    read.push_back(*address);
  }
  out = std::move(read);
}

void read_bind(Reader& r, const toml::node& value) {
  const auto text = value.value<std::string_view>();
  if (value.is_string() && *text == "localhost") {
    r.settings().host.bind.reset();
    return;
  }
  const auto address = value.is_string() ? IpAddress::parse(*text) : std::nullopt;
  if (!address || !address->is_loopback()) {
    return r.expect(value, "\"localhost\" or one loopback address: this version binds no other");
  }
  r.settings().host.bind = address;
}

void read_budget(Reader& r, const toml::node& value) {
  const auto percent = value.value<double>();
  if (!value.is_number() || !(*percent >= 0.01 && *percent <= 100)) {
    return r.expect(value, "a percentage of one core, 0.01 to 100");
  }
  r.settings().detect.cpu_budget = *percent;
}

/// A key whose only value so far is its default: anything else is said to be unsupported.
void read_only(Reader& r, const toml::node& value, bool is_default, std::string_view expected) {
  if (!is_default) r.expect(value, fmt::format("{}: this version knows no other value", expected));
}

void read_on_auto_forward(Reader& r, const toml::node& value) {
  static constexpr std::array<std::string_view, 5> kKnown{"notify", "silent", "open-browser",
                                                          "open-browser-once", "ignore"};
  const auto text = value.value<std::string_view>();
  if (!value.is_string() || std::ranges::find(kKnown, *text) == kKnown.end()) {
    return r.expect(
        value, "\"notify\", \"silent\", \"open-browser\", \"open-browser-once\" or \"ignore\"");
  }
  r.settings().ports.on_auto_forward = *text;
}

void read_fallback(Reader& r, const toml::node& value) {
  const auto range = port_range_of(value);
  if (!range) return r.expect(value, "a range of ports such as \"20000-29999\"");
  r.settings().host.fallback_range = *range;
}

void read_poll_interval(Reader& r, const toml::node& value) {
  if (value.is_string() && *value.value<std::string_view>() == "auto") {
    r.settings().detect.interval.reset();
    return;
  }
  Duration read{};
  read_interval(r, value, read);
  if (read > Duration::zero()) r.settings().detect.interval = read;
}

/// Every key of the configuration, with the one function that reads it.
// clang-format off
constexpr std::array kKeys{
    Key{"detect", "interval", read_poll_interval},
    Key{"detect", "min_interval", [](Reader& r, const toml::node& v) { read_interval(r, v, r.settings().detect.min_interval); }},
    Key{"detect", "max_interval", [](Reader& r, const toml::node& v) { read_interval(r, v, r.settings().detect.max_interval); }},
    Key{"detect", "cpu_budget", read_budget},
    Key{"detect", "udp", [](Reader& r, const toml::node& v) { read_only(r, v, v.is_boolean() && !*v.value<bool>(), "false"); }},
    Key{"host", "bind", read_bind},
    Key{"host", "allow_remote", [](Reader& r, const toml::node& v) { read_only(r, v, v.is_boolean() && !*v.value<bool>(), "false"); }},
    Key{"host", "restrict_to_user", [](Reader& r, const toml::node& v) { read_bool(r, v, r.settings().host.restrict_to_user); }},
    Key{"host", "allocation", [](Reader& r, const toml::node& v) { read_only(r, v, v.value<std::string_view>() == "same-port", "\"same-port\""); }},
    Key{"host", "fallback_range", read_fallback},
    Key{"host", "avoid", [](Reader& r, const toml::node& v) { read_ranges(r, v, r.settings().host.avoid); }},
    Key{"host", "sticky", [](Reader& r, const toml::node& v) { read_bool(r, v, r.settings().host.sticky); }},
    Key{"host", "linger", [](Reader& r, const toml::node& v) { read_duration(r, v, r.settings().host.linger); }},
    Key{"host", "hold", [](Reader& r, const toml::node& v) { read_duration(r, v, r.settings().host.hold); }},
    Key{"host", "drain", [](Reader& r, const toml::node& v) { read_duration(r, v, r.settings().host.drain); }},
    Key{"host", "connect_timeout", [](Reader& r, const toml::node& v) { read_interval(r, v, r.settings().host.connect_timeout); }},
    Key{"host", "max_forwards", [](Reader& r, const toml::node& v) { read_count(r, v, r.settings().host.max_forwards); }},
    Key{"host", "max_connections", [](Reader& r, const toml::node& v) { read_count(r, v, r.settings().host.max_connections); }},
    Key{"ports", "include", [](Reader& r, const toml::node& v) { read_ranges(r, v, r.settings().ports.include); }},
    Key{"ports", "exclude", [](Reader& r, const toml::node& v) { read_ranges(r, v, r.settings().ports.exclude); }},
    Key{"ports", "ignore_addresses", [](Reader& r, const toml::node& v) { read_addresses(r, v, r.settings().ports.ignore_addresses); }},
    Key{"ports", "on_auto_forward", read_on_auto_forward},
};
// clang-format on

std::string unknown(std::string_view what, std::string_view name,
                    std::span<const std::string_view> known) {
  const std::string_view close = nearest(name, known);
  const std::string hint = close.empty() ? "" : fmt::format("; did you mean \"{}\"?", close);
  return fmt::format("unknown {} \"{}\"{}", what, name, hint);
}

void Reader::read_table(std::string_view section, const toml::table& table) {
  std::vector<std::string_view> names;
  for (const Key& key : kKeys) {
    if (key.section == section) names.push_back(key.name);
  }
  for (const auto& [name, value] : table) {
    const auto known = std::ranges::find_if(kKeys, [&, n = name.str()](const Key& key) {
      return key.section == section && key.name == n;
    });
    if (known != kKeys.end()) {
      known->apply(*this, value);
    } else {
      complain(name.source(), unknown("key", name.str(), names));
    }
  }
}

void Reader::read(const toml::table& root) {
  static constexpr std::array<std::string_view, 3> kSections{"detect", "host", "ports"};
  for (const auto& [name, value] : root) {
    const std::string_view section = name.str();
    if (section == "rule" || section == "forward") {
      complain(name.source(), fmt::format("[[{}]] is not supported by this version", section));
    } else if (std::ranges::find(kSections, section) == kSections.end()) {
      complain(name.source(), unknown("section", section, kSections));
    } else if (const toml::table* table = value.as_table()) {
      read_table(section, *table);
    } else {
      expect(value, fmt::format("a table: [{}]", section));
    }
  }
  const auto& detect = settings_.detect;
  if (mistakes_.empty() && detect.min_interval > detect.max_interval) {
    complain(root.source(), "[detect] min_interval is longer than max_interval");
  }
}

Mistakes apply(std::string_view text, std::string_view name, Settings& settings) {
  const toml::parse_result parsed = toml::parse(text, name);
  if (!parsed) {
    const toml::parse_error& e = parsed.error();
    return {{std::string(name), e.source().begin.line, e.source().begin.column,
             std::string(e.description())}};
  }
  Reader reader(name, settings);
  reader.read(parsed.table());
  Mistakes mistakes = reader.take();
  std::ranges::sort(mistakes, {}, [](const Mistake& m) { return std::pair(m.line, m.column); });
  return mistakes;
}

std::optional<std::string> read_file(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf() || in.peek() == EOF)) return std::nullopt;
  return std::move(text).str();
}

}  // namespace

std::string Mistake::message() const {
  if (line == 0) return fmt::format("{}: {}", file, text);
  return fmt::format("{}:{}:{}: {}", file, line, column, text);
}

std::expected<Settings, Mistakes> parse_config(std::string_view text, std::string_view name) {
  Settings settings;
  if (Mistakes mistakes = apply(text, name, settings); !mistakes.empty()) {
    return std::unexpected(std::move(mistakes));
  }
  return settings;
}

std::expected<Settings, Mistakes> read_config(const std::vector<std::filesystem::path>& files) {
  Settings settings;
  Mistakes all;
  for (const auto& file : files) {
    const auto text = read_file(file);
    if (!text) {
      all.push_back({file.string(), 0, 0, "cannot be read: " + Error{errno, "open"}.text()});
      continue;
    }
    std::ranges::move(apply(*text, file.string(), settings), std::back_inserter(all));
  }
  if (!all.empty()) return std::unexpected(std::move(all));
  return settings;
}

std::vector<std::filesystem::path> config_files(const std::filesystem::path& config,
                                                bool required) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  std::vector<fs::path> files;
  if (required || fs::exists(config, ignored)) files.push_back(config);
  std::vector<fs::path> drop_ins;
  for (const auto& entry : fs::directory_iterator(config.parent_path() / "config.d", ignored)) {
    if (entry.path().extension() == ".toml") drop_ins.push_back(entry.path());
  }
  std::ranges::sort(drop_ins);
  std::ranges::move(drop_ins, std::back_inserter(files));
  return files;
}

}  // namespace portfwd
