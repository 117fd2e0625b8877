// The sections of portfwd.toml(5) and their keys: which value each key has, and where it goes.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include "config/value_readers.h"

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

/// A member of the SocketOptions of a section.
template <class Section, auto Member, auto Read>
void set_socket(MistakeCollector& complaints, const toml::node& value, Section& out) {
  if (auto read = Read(complaints, value)) out.socket.*Member = std::move(*read);
}

/// Where a forward is on the host: a port or a path.
void set_host(MistakeCollector& complaints, const toml::node& value, DeclaredForward& out) {
  auto read = read::host_place(complaints, value);
  if (!read) return;
  if (read->port) out.host_port = read->port;
  out.host_path = std::move(read->path);
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
    Key<DeclaredForward>{"host", set_host},
    Key<DeclaredForward>{"direction", set<&DeclaredForward::direction, read::direction>},
    Key<DeclaredForward>{"label", set<&DeclaredForward::label, read::text>},
};
constexpr std::array kShareKeys{
    Key<Share>{"name", set<&Share::name, read::name>},
    Key<Share>{"container", set<&Share::container, read::pattern>},
    Key<Share>{"preset", set<&Share::preset, read::preset>},
    Key<Share>{"host", set<&Share::host, read::shared_socket>},
    Key<Share>{"inside", set<&Share::inside, read::inside_path>},
    Key<Share>{"owner", set_socket<Share, &SocketOptions::owner, read::owner>},
    Key<Share>{"mode", set_socket<Share, &SocketOptions::mode, read::mode>},
    Key<Share>{"create_parents", set_socket<Share, &SocketOptions::create_parents, read::boolean>},
    Key<Share>{"pass_fds", set_socket<Share, &SocketOptions::pass_fds, read::boolean>},
};
constexpr std::array<std::string_view, 7> kSections{"detect", "host",    "ports", "unix",
                                                    "rule",   "forward", "share"};

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
    } else if (section == "share") {
      read_all(complaints, section, value, kShareKeys, {"container"}, settings.shares);
    } else if (value.is_table() || value.is_array_of_tables()) {
      complaints.unknown(name, "section", kSections);
    } else {
      complaints.add(place_of(name.source()),
                     fmt::format("key \"{}\" is in no section; the sections are [detect], [host], "
                                 "[ports], [unix], [[rule]], [[forward]] and [[share]]",
                                 section));
    }
  }
}

}  // namespace portfwd
