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
  if (parsed && parsed->port() == nullptr) parsed.reset();  // other kinds cannot be forwarded yet
  if (!parsed) c.expect(v, "a port in the container, such as \"8080\" or \"53/udp\"");
  return parsed;
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

namespace portfwd {

namespace {

using Detect = Settings::Detect;
using Host = Settings::Host;
using Ports = Settings::Ports;
using Unix = Settings::Unix;

template <class Section>
struct Key {
  std::string_view name;
  void (*read)(MistakeCollector&, const toml::node&, Section&);
};

template <auto Member, auto Read, class Section>
void set(MistakeCollector& complaints, const toml::node& value, Section& section) {
  auto read = Read(complaints, value);
  if (!read) return;
  if constexpr (std::is_same_v<std::decay_t<decltype(section.*Member)>, decltype(read)>) {
    section.*Member = std::move(read);
  } else {
    section.*Member = *std::move(read);
  }
}

/// A rule's condition on labels, which has two names.
void set_labels(MistakeCollector& complaints, const toml::node& value, Rule& rule) {
  if (!rule.labels.empty()) return complaints.expect(value, "label or labels, not both");
  set<&Rule::labels, read::labels>(complaints, value, rule);
}

/// A rule's `label`: a table is a condition, a string is the label that its forwards get.
void set_label(MistakeCollector& complaints, const toml::node& value, Rule& rule) {
  if (value.is_table()) return set_labels(complaints, value, rule);
  set<&Rule::label, read::text>(complaints, value, rule);
}

// tests/docs/reference reads the names from these tables.
constexpr std::array kDetectKeys{
    Key<Detect>{"interval", set<&Detect::interval, read::poll_interval>},
    Key<Detect>{"min_interval", set<&Detect::min_interval, read::interval>},
    Key<Detect>{"max_interval", set<&Detect::max_interval, read::interval>},
    Key<Detect>{"cpu_budget", set<&Detect::cpu_budget, read::percentage>},
    Key<Detect>{"udp", set<&Detect::udp, read::boolean>},
};
constexpr std::array kHostKeys{
    Key<Host>{"bind", set<&Host::bind, read::bind>},
    Key<Host>{"allow_remote", set<&Host::allow_remote, read::boolean>},
    Key<Host>{"restrict_to_user", set<&Host::restrict_to_user, read::boolean>},
    Key<Host>{"allocation", set<&Host::allocation, read::allocation>},
    Key<Host>{"fallback_range", set<&Host::fallback_range, read::port_range>},
    Key<Host>{"avoid", set<&Host::avoid, read::port_list>},
    Key<Host>{"sticky", set<&Host::sticky, read::boolean>},
    Key<Host>{"linger", set<&Host::linger, read::duration>},
    Key<Host>{"hold", set<&Host::hold, read::duration>},
    Key<Host>{"drain", set<&Host::drain, read::duration>},
    Key<Host>{"connect_timeout", set<&Host::connect_timeout, read::interval>},
    Key<Host>{"max_forwards", set<&Host::max_forwards, read::count>},
    Key<Host>{"max_connections", set<&Host::max_connections, read::count>},
};
constexpr std::array kPortsKeys{
    Key<Ports>{"include", set<&Ports::include, read::port_list>},
    Key<Ports>{"exclude", set<&Ports::exclude, read::port_list>},
    Key<Ports>{"ignore_addresses", set<&Ports::ignore_addresses, read::address_list>},
    Key<Ports>{"on_auto_forward", set<&Ports::on_auto_forward, read::on_auto_forward>},
};
constexpr std::array kUnixKeys{
    Key<Unix>{"include", set<&Unix::include, read::unix_patterns>},
    Key<Unix>{"exclude", set<&Unix::exclude, read::unix_patterns>},
    Key<Unix>{"max_sockets", set<&Unix::max_sockets, read::count>},
};
constexpr std::array kRuleKeys{
    Key<Rule>{"container", set<&Rule::container, read::pattern>},
    Key<Rule>{"engine", set<&Rule::engine, read::pattern>},
    Key<Rule>{"image", set<&Rule::image, read::pattern>},
    Key<Rule>{"project", set<&Rule::project, read::pattern>},
    Key<Rule>{"label", set_label},
    Key<Rule>{"labels", set_labels},
    Key<Rule>{"protocol", set<&Rule::protocol, read::protocol>},
    Key<Rule>{"process", set<&Rule::process, read::regex>},
    Key<Rule>{"uid", set<&Rule::uid, read::uid>},
    Key<Rule>{"address", set<&Rule::address, read::address>},
    Key<Rule>{"ports", set<&Rule::ports, read::some_ports>},
    Key<Rule>{"unix", set<&Rule::unix_names, read::some_unix_patterns>},
    Key<Rule>{"on_auto_forward", set<&Rule::on_auto_forward, read::on_auto_forward>},
    Key<Rule>{"host_port", set<&Rule::host_port, read::port>},
    Key<Rule>{"require_host_port", set<&Rule::require_host_port, read::boolean>},
    Key<Rule>{"settle", set<&Rule::settle, read::duration>},
    Key<Rule>{"scheme", set<&Rule::scheme, read::scheme>},
    Key<Rule>{"proxy_protocol", set<&Rule::proxy_protocol, read::proxy_protocol>},
    Key<Rule>{"restrict_to_user", set<&Rule::restrict_to_user, read::boolean>},
    Key<Rule>{"allow_users", set<&Rule::allow_users, read::users>},
    Key<Rule>{"bind", set<&Rule::bind, read::bind>},
    Key<Rule>{"allow_remote", set<&Rule::allow_remote, read::boolean>},
};
constexpr std::array kForwardKeys{
    Key<DeclaredForward>{"container", set<&DeclaredForward::container, read::name>},
    Key<DeclaredForward>{"target", set<&DeclaredForward::target, read::target>},
    Key<DeclaredForward>{"host_port", set<&DeclaredForward::host_port, read::port>},
    Key<DeclaredForward>{"direction", set<&DeclaredForward::direction, read::direction>},
    Key<DeclaredForward>{"label", set<&DeclaredForward::label, read::text>},
};
constexpr std::array<std::string_view, 6> kSections{"detect", "host", "ports",
                                                    "unix",   "rule", "forward"};

template <class Section, std::size_t N>
void read_keys(MistakeCollector& complaints, std::string_view section, const toml::table& table,
               const std::array<Key<Section>, N>& keys, Section& out) {
  std::array<std::string_view, N> names;
  std::ranges::transform(keys, names.begin(), &Key<Section>::name);
  for (const auto& [name, value] : table) {
    const auto known = std::ranges::find(keys, name.str(), &Key<Section>::name);
    if (known == keys.end()) {
      complaints.unknown(name, "key", names);
    } else {
      complaints.record_place(section, name);
      known->read(complaints, value, out);
    }
  }
}

/// Reads a [section].
template <class Section, std::size_t N>
void read_one(MistakeCollector& complaints, std::string_view section, const toml::node& value,
              const std::array<Key<Section>, N>& keys, Section& out) {
  if (const toml::table* table = value.as_table()) {
    return read_keys(complaints, section, *table, keys, out);
  }
  complaints.expect(value, fmt::format("a table: [{}]", section));
}

/// Reads all [[section]]. @param required keys that each of them must have
template <class Section, std::size_t N>
void read_all(MistakeCollector& complaints, std::string_view section, const toml::node& value,
              const std::array<Key<Section>, N>& keys,
              std::initializer_list<std::string_view> required, std::vector<Section>& out) {
  const toml::array* array = value.as_array();
  if (array == nullptr) return complaints.expect(value, fmt::format("tables: [[{}]]", section));
  for (const toml::node& entry : *array) {
    const toml::table* table = entry.as_table();
    if (table == nullptr) {
      complaints.expect(entry, fmt::format("a table: [[{}]]", section));
      continue;
    }
    out.emplace_back().place = place_of(table->source());
    read_keys(complaints, section, *table, keys, out.back());
    for (const std::string_view key : required) {
      if (!table->contains(key)) {
        complaints.add(out.back().place, fmt::format("[[{}]] needs {}", section, key));
      }
    }
  }
}

}  // namespace

void read_sections(MistakeCollector& complaints, const toml::table& root, Settings& settings) {
  for (const auto& [name, value] : root) {
    const std::string_view section = name.str();
    if (section == "detect") {
      read_one(complaints, section, value, kDetectKeys, settings.detect);
    } else if (section == "host") {
      read_one(complaints, section, value, kHostKeys, settings.host);
    } else if (section == "ports") {
      read_one(complaints, section, value, kPortsKeys, settings.ports);
    } else if (section == "unix") {
      read_one(complaints, section, value, kUnixKeys, settings.unix_sockets);
    } else if (section == "rule") {
      read_all(complaints, section, value, kRuleKeys, {}, settings.rules);
    } else if (section == "forward") {
      read_all(complaints, section, value, kForwardKeys, {"container", "target"},
               settings.forwards);
    } else if (value.is_table() || value.is_array_of_tables()) {
      complaints.unknown(name, "section", kSections);
    } else {
      complaints.add(place_of(name.source()),
                     fmt::format("key \"{}\" is in no section; the sections are [detect], [host], "
                                 "[ports], [unix], [[rule]] and [[forward]]",
                                 section));
    }
  }
}

}  // namespace portfwd
