#include "config/value_readers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#include "base/text.h"
#include "net/presets.h"

namespace portfwd {

namespace {

using namespace std::chrono_literals;

struct Unit {
  std::string_view name;
  Duration length;
};
constexpr std::array<Unit, 5> kUnits{
    {{"us", 1us}, {"ms", 1ms}, {"s", 1s}, {"min", 1min}, {"h", 1h}}};
constexpr Duration kLongest = 24h;

}  // namespace

std::optional<Duration> parse_duration(std::string_view text) {
  std::int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc{} || count < 0) return std::nullopt;
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  for (const Unit& known : kUnits) {
    if (known.name != unit) continue;
    if (count > kLongest / known.length) return std::nullopt;
    return count * known.length;
  }
  return std::nullopt;
}

std::optional<FileOwner> parse_file_owner(std::string_view text) {
  const auto colon = text.find(':');
  const auto number = [](std::string_view digits, std::uint32_t& id) {
    const char* const end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, id);
    return error == std::errc() && stop == end && id != static_cast<uid_t>(-1);
  };
  FileOwner owner;
  if (colon == text.npos || !number(text.substr(0, colon), owner.uid) ||
      !number(text.substr(colon + 1), owner.gid)) {
    return std::nullopt;
  }
  return owner;
}

std::optional<PortRange> parse_port_range(std::string_view text) {
  const auto dash = text.find('-');
  const auto first = parse_port(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : parse_port(text.substr(dash + 1));
  if (!first || !last || *first > *last) return std::nullopt;
  return PortRange{*first, *last};
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

namespace portfwd::read {

namespace {

constexpr std::size_t kLongestText = 256;  ///< bytes; such a text is sent with every forward

std::optional<std::string_view> string_in(const Node& v) {
  return v.is_string() ? v.value<std::string_view>() : std::nullopt;
}

std::optional<std::int64_t> integer_in(const Node& v, std::int64_t least, std::int64_t most) {
  if (!v.is_integer()) return std::nullopt;
  const std::int64_t number = *v.value<std::int64_t>();
  return least <= number && number <= most ? std::optional(number) : std::nullopt;
}

/// Reads a value that must be one of a few words. @return its index among them
template <std::size_t N>
std::optional<std::size_t> choice(MistakeCollector& c, const Node& v,
                                  const std::array<std::string_view, N>& words) {
  const auto given = string_in(v);
  for (std::size_t i = 0; given && i < N; ++i) {
    if (words[i] == *given) return i;
  }
  std::string expected;
  for (std::size_t i = 0; i < N; ++i) {
    expected += fmt::format("{}\"{}\"", i == 0 ? "" : i + 1 == N ? " or " : ", ", words[i]);
  }
  c.expect(v, expected);
  return std::nullopt;
}

/// Reads a list, each entry with `entry`, which complains of each bad one.
template <class T>
std::optional<std::vector<T>> list(MistakeCollector& c, const Node& v, std::string_view expected,
                                   std::optional<T> (*entry)(MistakeCollector&, const Node&)) {
  const toml::array* all = v.as_array();
  if (all == nullptr) return c.expect(v, expected), std::nullopt;
  std::vector<T> out;
  for (const Node& one : *all) {
    if (auto value = entry(c, one)) out.push_back(std::move(*value));
  }
  return out.size() == all->size() ? std::optional(std::move(out)) : std::nullopt;
}

std::optional<uid_t> user(MistakeCollector& c, const Node& v) {
  constexpr std::int64_t kLast = std::numeric_limits<uid_t>::max() - 1;  // -1 is not a user
  if (const auto number = integer_in(v, 0, kLast)) return static_cast<uid_t>(*number);
  if (const auto name = string_in(v)) {
    if (const auto uid = c.users().find(std::string(*name))) return uid;
  }
  c.expect(v, "the name of a user of this machine, or a user id");
  return std::nullopt;
}

}  // namespace

std::optional<bool> boolean(MistakeCollector& c, const Node& v) {
  if (!v.is_boolean()) return c.expect(v, "true or false"), std::nullopt;
  return v.value<bool>();
}

std::optional<unsigned> count(MistakeCollector& c, const Node& v) {
  const auto number = integer_in(v, 0, std::numeric_limits<int>::max());
  if (!number) return c.expect(v, "a whole number, 0 or more"), std::nullopt;
  return static_cast<unsigned>(*number);
}

std::optional<double> percentage(MistakeCollector& c, const Node& v) {
  const auto percent = v.is_number() ? v.value<double>() : std::nullopt;
  if (!percent || !(*percent >= 0.01 && *percent <= 100)) {
    return c.expect(v, "a percentage of one core, 0.01 to 100"), std::nullopt;
  }
  return percent;
}

std::optional<Duration> duration(MistakeCollector& c, const Node& v) {
  const auto given = string_in(v);
  const auto parsed = given ? parse_duration(*given) : std::nullopt;
  if (!parsed) c.expect(v, "a duration such as \"250ms\", \"2s\" or \"1min\", at most \"24h\"");
  return parsed;
}

std::optional<Duration> interval(MistakeCollector& c, const Node& v) {
  const auto read = duration(c, v);
  if (!read || *read >= std::chrono::milliseconds(1)) return read;
  return c.expect(v, "a duration of at least \"1ms\""), std::nullopt;
}

std::optional<std::string> text(MistakeCollector& c, const Node& v) {
  const auto given = string_in(v);
  if (!given || given->size() > kLongestText) {
    return c.expect(v, "a string in quotes of at most 256 bytes"), std::nullopt;
  }
  return std::string(*given);
}

std::optional<std::string> name(MistakeCollector& c, const Node& v) {
  const auto given = string_in(v);
  if (!given || given->empty() || given->size() > kLongestText) {
    return c.expect(v, "a name in quotes of at most 256 bytes"), std::nullopt;
  }
  return std::string(*given);
}

std::optional<std::string> pattern(MistakeCollector& c, const Node& v) {
  const auto given = string_in(v);
  if (!given || given->empty()) {
    return c.expect(v, "a name or a shell pattern such as \"db-*\""), std::nullopt;
  }
  return std::string(*given);
}

std::optional<Regex> regex(MistakeCollector& c, const Node& v) {
  const auto given = string_in(v);
  if (!given) return c.expect(v, "a regular expression in quotes"), std::nullopt;
  auto compiled = Regex::compile(*given);
  if (compiled) return std::move(*compiled);
  c.expect(v, fmt::format("a regular expression (RE2): {}", compiled.error().text));
  return std::nullopt;
}

std::optional<uid_t> uid(MistakeCollector& c, const Node& v) {
  const auto number = integer_in(v, 0, std::numeric_limits<uid_t>::max());
  if (!number) return c.expect(v, "a user id of the container, 0 or more"), std::nullopt;
  return static_cast<uid_t>(*number);
}

std::optional<std::vector<uid_t>> users(MistakeCollector& c, const Node& v) {
  return list(c, v, "a list of users such as [\"alice\", 1001]", user);
}

std::optional<std::map<std::string, std::string>> labels(MistakeCollector& c, const Node& v) {
  const toml::table* table = v.as_table();
  if (table == nullptr) {
    return c.expect(v, "label names with a shell pattern each, such as {stage = \"test-*\"}"),
           std::nullopt;
  }
  std::map<std::string, std::string> out;
  for (const auto& [name, value] : *table) {
    if (auto read = pattern(c, value)) out.emplace(name.str(), std::move(*read));
  }
  return out.size() == table->size() ? std::optional(std::move(out)) : std::nullopt;
}

std::optional<Port> port(MistakeCollector& c, const Node& v) {
  const auto number = integer_in(v, 1, 65535);
  if (!number) return c.expect(v, "a port, 1 to 65535"), std::nullopt;
  return static_cast<Port>(*number);
}

std::optional<PortRange> port_range(MistakeCollector& c, const Node& v) {
  std::optional<PortRange> range;
  if (const auto number = integer_in(v, 1, 65535)) {
    range = PortRange{static_cast<Port>(*number), static_cast<Port>(*number)};
  } else if (const auto given = string_in(v)) {
    range = parse_port_range(*given);
  }
  if (!range) c.expect(v, "a port (1-65535) or a range such as \"5000-6000\"");
  return range;
}

std::optional<PortRanges> port_list(MistakeCollector& c, const Node& v) {
  return list(c, v, "a list of ports and ranges such as [22, \"5000-6000\"]", port_range);
}

std::optional<PortRanges> some_ports(MistakeCollector& c, const Node& v) {
  auto ports = port_list(c, v);
  if (!ports || !ports->empty()) return ports;
  return c.expect(v, "at least one port; a rule without `ports` applies to all ports"),
         std::nullopt;
}

std::optional<std::string> unix_pattern(MistakeCollector& c, const Node& v) {
  auto given = pattern(c, v);
  if (!given) return given;
  const bool named = given->front() == '/' || given->front() == '@';
  if (named && given->size() > 1 && given->find('\0') == given->npos) return given;
  c.expect(v,
           "a path that begins with \"/\", such as \"/run/app/*.sock\", or an abstract name that "
           "begins with \"@\"");
  return std::nullopt;
}

std::optional<std::vector<std::string>> unix_patterns(MistakeCollector& c, const Node& v) {
  return list(c, v, "a list of shell patterns such as [\"/run/app/*.sock\", \"@name\"]",
              unix_pattern);
}

std::optional<std::vector<std::string>> some_unix_patterns(MistakeCollector& c, const Node& v) {
  auto patterns = unix_patterns(c, v);
  if (!patterns || !patterns->empty()) return patterns;
  return c.expect(v, "at least one pattern; a rule without `unix` applies to all sockets"),
         std::nullopt;
}

std::optional<Target> target(MistakeCollector& c, const Node& v) {
  std::optional<Target> parsed;
  if (const auto number = integer_in(v, 1, 65535)) {
    parsed = Target{Protocol::Tcp, static_cast<Port>(*number)};
  } else if (const auto given = string_in(v)) {
    parsed = parse_target(*given);
  }
  const bool usable = parsed && (parsed->port() != nullptr || !parsed->path().empty());
  if (!usable) {
    c.expect(v,
             "a port or socket in the container, such as \"8080\", \"53/udp\" or "
             "\"unix:/run/app.sock\"");
    return std::nullopt;
  }
  return parsed;
}

namespace {

/// The path in "unix:/PATH". @param variables whether it may begin with one
std::optional<std::string> path_of_unix(std::optional<std::string_view> given, bool variables) {
  constexpr std::string_view kUnix = "unix:";
  if (!given || !given->starts_with(kUnix)) return std::nullopt;
  const std::string_view path = given->substr(kUnix.size());
  const bool begins_well = path.starts_with('/') || (variables && path.starts_with('$'));
  if (!begins_well || path.size() > kLongestUnixName) return std::nullopt;
  return std::string(path);
}

}  // namespace

std::optional<HostPlace> host_place(MistakeCollector& c, const Node& v) {
  if (const auto number = integer_in(v, 1, 65535)) {
    return HostPlace{static_cast<Port>(*number), ""};
  }
  auto path = path_of_unix(string_in(v), true);
  if (!path) {
    c.expect(v, "a port of the host, or a path such as \"unix:/run/user/1000/app.sock\"");
    return std::nullopt;
  }
  return HostPlace{{}, std::move(*path)};
}

std::optional<std::string> preset(MistakeCollector& c, const Node& v) {
  const auto given = string_in(v);
  if (given && find_preset(*given) != nullptr) return std::string(*given);
  std::string names;
  for (const Preset& known : presets()) {
    names += fmt::format("{}\"{}\"", names.empty() ? "" : ", ", known.name);
  }
  return c.expect(v, "one of " + names), std::nullopt;
}

std::optional<std::string> shared_socket(MistakeCollector& c, const Node& v) {
  auto path = path_of_unix(string_in(v), true);
  if (path && path->find_first_of("*?[") == path->npos) return path;
  return c.expect(v,
                  "the path of one socket of the host, such as \"unix:$XDG_RUNTIME_DIR/app.sock\""),
         std::nullopt;
}

std::optional<std::string> inside_path(MistakeCollector& c, const Node& v) {
  const auto given = string_in(v);
  const bool usable = given && parse_target(fmt::format("unix:{}", *given)).has_value();
  if (!usable) return c.expect(v, "a path in the container, or @NAME"), std::nullopt;
  return std::string(*given);
}

std::optional<std::optional<FileOwner>> owner(MistakeCollector& c, const Node& v) {
  const auto given = string_in(v);
  if (given && given->empty()) return std::optional<FileOwner>();
  if (const auto parsed = given ? parse_file_owner(*given) : std::nullopt) {
    return std::optional<FileOwner>(parsed);
  }
  return c.expect(v, "an owner as numbers in the container, such as \"1000:1000\", or \"\""),
         std::nullopt;
}

std::optional<mode_t> mode(MistakeCollector& c, const Node& v) {
  const auto given = string_in(v);
  mode_t bits = 0;
  const char* const end = given ? given->data() + given->size() : nullptr;
  const bool usable = given && !given->empty() && given->size() <= 4 &&
                      std::from_chars(given->data(), end, bits, 8).ptr == end && bits <= 0777;
  if (!usable) return c.expect(v, "permission bits such as \"0600\""), std::nullopt;
  return bits;
}

std::optional<IpAddress> address(MistakeCollector& c, const Node& v) {
  const auto given = string_in(v);
  const auto parsed = given ? IpAddress::parse(*given) : std::nullopt;
  if (!parsed) c.expect(v, "an IPv4 or IPv6 address");
  return parsed;
}

std::optional<std::vector<IpAddress>> address_list(MistakeCollector& c, const Node& v) {
  return list(c, v, "a list of addresses such as [\"127.0.0.11\"]", address);
}

std::optional<Bind> bind(MistakeCollector& c, const Node& v) {
  const auto given = string_in(v);
  if (given == "localhost") return Bind{};
  const auto parsed = given ? IpAddress::parse(*given) : std::nullopt;
  if (!parsed) return c.expect(v, "\"localhost\" or one address"), std::nullopt;
  return Bind{parsed};
}

std::optional<std::optional<Duration>> poll_interval(MistakeCollector& c, const Node& v) {
  if (string_in(v) == "auto") return std::optional<Duration>();
  if (const auto read = interval(c, v)) return read;
  return std::nullopt;
}

std::optional<Allocation> allocation(MistakeCollector& c, const Node& v) {
  constexpr std::array<std::string_view, 2> kWords{"same-port", "per-container"};
  const auto i = choice(c, v, kWords);
  return i ? std::optional(static_cast<Allocation>(*i)) : std::nullopt;
}

std::optional<Direction> direction(MistakeCollector& c, const Node& v) {
  constexpr std::array<std::string_view, 2> kWords{"in", "reverse"};
  const auto i = choice(c, v, kWords);
  return i ? std::optional(static_cast<Direction>(*i)) : std::nullopt;
}

std::optional<Protocol> protocol(MistakeCollector& c, const Node& v) {
  constexpr std::array<std::string_view, 2> kWords{"tcp", "udp"};
  const auto i = choice(c, v, kWords);
  return i ? std::optional(static_cast<Protocol>(*i)) : std::nullopt;
}

std::optional<ProxyProtocol> proxy_protocol(MistakeCollector& c, const Node& v) {
  constexpr std::array<std::string_view, 3> kWords{"off", "v1", "v2"};
  const auto i = choice(c, v, kWords);
  return i ? std::optional(static_cast<ProxyProtocol>(*i)) : std::nullopt;
}

std::optional<std::string> on_auto_forward(MistakeCollector& c, const Node& v) {
  constexpr std::array<std::string_view, 5> kWords{"notify", "silent", "open-browser",
                                                   "open-browser-once", "ignore"};
  const auto i = choice(c, v, kWords);
  return i ? std::optional(std::string(kWords[*i])) : std::nullopt;
}

std::optional<std::string> scheme(MistakeCollector& c, const Node& v) {
  constexpr std::array<std::string_view, 2> kWords{"http", "https"};
  const auto i = choice(c, v, kWords);
  return i ? std::optional(std::string(kWords[*i])) : std::nullopt;
}
}  // namespace portfwd::read
