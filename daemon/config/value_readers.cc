#include "config/value_readers.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "config/value_parsers.h"

namespace portfwd::read {

namespace {

constexpr std::size_t kLongestText = 256;  ///< of what is told with every forward

std::optional<std::string_view> string_in(const Node& v) {
  return v.is_string() ? v.value<std::string_view>() : std::nullopt;
}

std::optional<std::int64_t> integer_in(const Node& v, std::int64_t least, std::int64_t most) {
  if (!v.is_integer()) return std::nullopt;
  const std::int64_t number = *v.value<std::int64_t>();
  return least <= number && number <= most ? std::optional(number) : std::nullopt;
}

/// A value that must be one of a few words. @return its place among them
template <std::size_t N>
std::optional<std::size_t> choice(Complaints& c, const Node& v,
                                  const std::array<std::string_view, N>& words) {
  const auto said = string_in(v);
  for (std::size_t i = 0; said && i < N; ++i) {
    if (words[i] == *said) return i;
  }
  std::string expected;
  for (std::size_t i = 0; i < N; ++i) {
    expected += fmt::format("{}\"{}\"", i == 0 ? "" : i + 1 == N ? " or " : ", ", words[i]);
  }
  c.expect(v, expected);
  return std::nullopt;
}

/// A list of which every entry is read by `entry`, which complains of each bad one.
template <class T>
std::optional<std::vector<T>> list(Complaints& c, const Node& v, std::string_view expected,
                                   std::optional<T> (*entry)(Complaints&, const Node&)) {
  const toml::array* all = v.as_array();
  if (all == nullptr) return c.expect(v, expected), std::nullopt;
  std::vector<T> out;
  for (const Node& one : *all) {
    if (auto value = entry(c, one)) out.push_back(std::move(*value));
  }
  return out.size() == all->size() ? std::optional(std::move(out)) : std::nullopt;
}

std::optional<uid_t> user(Complaints& c, const Node& v) {
  constexpr std::int64_t kLast = std::numeric_limits<uid_t>::max() - 1;  // the last is no user
  if (const auto number = integer_in(v, 0, kLast)) return static_cast<uid_t>(*number);
  if (const auto name = string_in(v)) {
    if (const auto uid = c.users().find(std::string(*name))) return uid;
  }
  c.expect(v, "the name of a user of this machine, or a user id");
  return std::nullopt;
}

}  // namespace

std::optional<bool> boolean(Complaints& c, const Node& v) {
  if (!v.is_boolean()) return c.expect(v, "true or false"), std::nullopt;
  return v.value<bool>();
}

std::optional<unsigned> count(Complaints& c, const Node& v) {
  const auto number = integer_in(v, 0, std::numeric_limits<int>::max());
  if (!number) return c.expect(v, "a whole number, 0 or more"), std::nullopt;
  return static_cast<unsigned>(*number);
}

std::optional<double> percentage(Complaints& c, const Node& v) {
  const auto percent = v.is_number() ? v.value<double>() : std::nullopt;
  if (!percent || !(*percent >= 0.01 && *percent <= 100)) {
    return c.expect(v, "a percentage of one core, 0.01 to 100"), std::nullopt;
  }
  return percent;
}

std::optional<Duration> duration(Complaints& c, const Node& v) {
  const auto said = string_in(v);
  const auto parsed = said ? parse_duration(*said) : std::nullopt;
  if (!parsed) c.expect(v, "a duration such as \"250ms\", \"2s\" or \"1min\", at most \"24h\"");
  return parsed;
}

std::optional<Duration> interval(Complaints& c, const Node& v) {
  const auto read = duration(c, v);
  if (!read || *read >= std::chrono::milliseconds(1)) return read;
  return c.expect(v, "a duration of at least \"1ms\""), std::nullopt;
}

std::optional<std::string> text(Complaints& c, const Node& v) {
  const auto said = string_in(v);
  if (!said || said->size() > kLongestText) {
    return c.expect(v, "a text in quotes, of at most 256 bytes"), std::nullopt;
  }
  return std::string(*said);
}

std::optional<std::string> name(Complaints& c, const Node& v) {
  const auto said = string_in(v);
  if (!said || said->empty() || said->size() > kLongestText) {
    return c.expect(v, "a name in quotes, of at most 256 bytes"), std::nullopt;
  }
  return std::string(*said);
}

std::optional<std::string> pattern(Complaints& c, const Node& v) {
  const auto said = string_in(v);
  if (!said || said->empty()) {
    return c.expect(v, "a name or a shell pattern such as \"db-*\""), std::nullopt;
  }
  return std::string(*said);
}

std::optional<Regex> regex(Complaints& c, const Node& v) {
  const auto said = string_in(v);
  if (!said) return c.expect(v, "a regular expression in quotes"), std::nullopt;
  auto compiled = Regex::compile(*said);
  if (compiled) return std::move(*compiled);
  c.expect(v, fmt::format("a regular expression (RE2): {}", compiled.error()));
  return std::nullopt;
}

std::optional<uid_t> uid(Complaints& c, const Node& v) {
  const auto number = integer_in(v, 0, std::numeric_limits<uid_t>::max());
  if (!number) return c.expect(v, "a user id, as the container counts: 0 or more"), std::nullopt;
  return static_cast<uid_t>(*number);
}

std::optional<std::vector<uid_t>> users(Complaints& c, const Node& v) {
  return list(c, v, "a list of users such as [\"alice\", 1001]", user);
}

std::optional<std::map<std::string, std::string>> labels(Complaints& c, const Node& v) {
  const toml::table* table = v.as_table();
  if (table == nullptr) {
    return c.expect(v, "label names with a shell pattern each: {stage = \"test-*\"}"), std::nullopt;
  }
  std::map<std::string, std::string> out;
  for (const auto& [name, value] : *table) {
    if (auto read = pattern(c, value)) out.emplace(name.str(), std::move(*read));
  }
  return out.size() == table->size() ? std::optional(std::move(out)) : std::nullopt;
}

std::optional<Port> port(Complaints& c, const Node& v) {
  const auto number = integer_in(v, 1, 65535);
  if (!number) return c.expect(v, "a port, 1 to 65535"), std::nullopt;
  return static_cast<Port>(*number);
}

std::optional<PortRange> port_range(Complaints& c, const Node& v) {
  std::optional<PortRange> range;
  if (const auto number = integer_in(v, 1, 65535)) {
    range = PortRange{static_cast<Port>(*number), static_cast<Port>(*number)};
  } else if (const auto said = string_in(v)) {
    range = parse_port_range(*said);
  }
  if (!range) c.expect(v, "a port (1-65535) or a range such as \"5000-6000\"");
  return range;
}

std::optional<PortRanges> port_list(Complaints& c, const Node& v) {
  return list(c, v, "a list of ports and ranges such as [22, \"5000-6000\"]", port_range);
}

std::optional<PortRanges> some_ports(Complaints& c, const Node& v) {
  auto ports = port_list(c, v);
  if (!ports || !ports->empty()) return ports;
  return c.expect(v, "at least one port; without `ports` a rule is about all"), std::nullopt;
}

std::optional<Target> target(Complaints& c, const Node& v) {
  std::optional<Target> parsed;
  if (const auto number = integer_in(v, 1, 65535)) {
    parsed = Target{Protocol::Tcp, static_cast<Port>(*number)};
  } else if (const auto said = string_in(v)) {
    parsed = parse_target(*said);
  }
  if (parsed && parsed->port() == nullptr) parsed.reset();  // no other kind is forwarded yet
  if (!parsed) c.expect(v, "a port inside, such as \"8080\" or \"53/udp\"");
  return parsed;
}

std::optional<IpAddress> address(Complaints& c, const Node& v) {
  const auto said = string_in(v);
  const auto parsed = said ? IpAddress::parse(*said) : std::nullopt;
  if (!parsed) c.expect(v, "an IPv4 or IPv6 address");
  return parsed;
}

std::optional<std::vector<IpAddress>> address_list(Complaints& c, const Node& v) {
  return list(c, v, "a list of addresses such as [\"127.0.0.11\"]", address);
}

std::optional<Bind> bind(Complaints& c, const Node& v) {
  const auto said = string_in(v);
  if (said == "localhost") return Bind{};
  const auto parsed = said ? IpAddress::parse(*said) : std::nullopt;
  if (!parsed) return c.expect(v, "\"localhost\" or one address"), std::nullopt;
  return Bind{parsed};
}

std::optional<std::optional<Duration>> poll_interval(Complaints& c, const Node& v) {
  if (string_in(v) == "auto") return std::optional<Duration>();
  if (const auto read = interval(c, v)) return read;
  return std::nullopt;
}

std::optional<Allocation> allocation(Complaints& c, const Node& v) {
  constexpr std::array<std::string_view, 2> kWords{"same-port", "per-container"};
  const auto i = choice(c, v, kWords);
  return i ? std::optional(static_cast<Allocation>(*i)) : std::nullopt;
}

std::optional<Direction> direction(Complaints& c, const Node& v) {
  constexpr std::array<std::string_view, 2> kWords{"in", "reverse"};
  const auto i = choice(c, v, kWords);
  return i ? std::optional(static_cast<Direction>(*i)) : std::nullopt;
}

std::optional<Protocol> protocol(Complaints& c, const Node& v) {
  constexpr std::array<std::string_view, 2> kWords{"tcp", "udp"};
  const auto i = choice(c, v, kWords);
  return i ? std::optional(static_cast<Protocol>(*i)) : std::nullopt;
}

std::optional<ProxyProtocol> proxy_protocol(Complaints& c, const Node& v) {
  constexpr std::array<std::string_view, 3> kWords{"off", "v1", "v2"};
  const auto i = choice(c, v, kWords);
  return i ? std::optional(static_cast<ProxyProtocol>(*i)) : std::nullopt;
}

std::optional<std::string> on_auto_forward(Complaints& c, const Node& v) {
  constexpr std::array<std::string_view, 5> kWords{"notify", "silent", "open-browser",
                                                   "open-browser-once", "ignore"};
  const auto i = choice(c, v, kWords);
  return i ? std::optional(std::string(kWords[*i])) : std::nullopt;
}

std::optional<std::string> scheme(Complaints& c, const Node& v) {
  constexpr std::array<std::string_view, 2> kWords{"http", "https"};
  const auto i = choice(c, v, kWords);
  return i ? std::optional(std::string(kWords[*i])) : std::nullopt;
}

}  // namespace portfwd::read
