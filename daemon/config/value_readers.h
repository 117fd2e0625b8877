// Readers of TOML values, and what collects their mistakes. Each returns a value as Settings has
// it, or reports what it expected, range included, and returns nothing. read_sections() applies
// them to the keys of portfwd.toml(5).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "config/mistakes.h"
#include "config/settings.h"
#include "config/toml.h"
#include "config/user_names.h"

namespace portfwd {

/// Parses "250ms", "2s", "1min", "0s"; units us, ms, s, min, h; at most a day, never negative.
[[nodiscard]] std::optional<Duration> parse_duration(std::string_view text);

/// Parses "8080" or "5000-6000", first <= last.
[[nodiscard]] std::optional<PortRange> parse_port_range(std::string_view text);

/// The place where a part of a file begins.
[[nodiscard]] Place place_of(const toml::source_region& region);

// Collects the mistakes of a configuration while it is read, each at the place of its cause, and
// the places of keys, for contradictions that show only when everything is read. It accompanies
// every value that is read, so it also holds what resolves the names of users. Owned by the reader
// of the configuration. Keys are not known here.
class MistakeCollector {
 public:
  /// @param users borrowed
  explicit MistakeCollector(UserNames& users) : users_(users) {}

  [[nodiscard]] UserNames& users() const { return users_; }
  /// @param text may quote the file; unprintable characters become '?'
  void add(Place place, const std::string& text);
  void expect(const toml::node& value, std::string_view expected);
  /// @param what "key", "section" @param known names of which the nearest is suggested
  void unknown(const toml::key& name, std::string_view what,
               std::span<const std::string_view> known);

  /// Stores where `section` has this key; a later file overrides an earlier one.
  void record_place(std::string_view section, const toml::key& name);
  /// The stored place; empty when no file has that key.
  [[nodiscard]] Place place_of_key(std::string_view section, std::string_view key) const;

  /// Returns and removes the mistakes, sorted by file and line.
  [[nodiscard]] Mistakes release_mistakes();

 private:
  UserNames& users_;
  std::map<std::pair<std::string, std::string>, Place> places_;  ///< by section and key
  Mistakes mistakes_;
};

}  // namespace portfwd

namespace portfwd::read {

/// A port, or the path of a Unix socket.
struct HostPlace {
  std::optional<Port> port;
  std::string path;
};

using Node = toml::node;

std::optional<bool> boolean(MistakeCollector& c, const Node& v);
std::optional<unsigned> count(MistakeCollector& c, const Node& v);     ///< 0 ... INT_MAX
std::optional<double> percentage(MistakeCollector& c, const Node& v);  ///< 0.01 ... 100
std::optional<Duration> duration(MistakeCollector& c, const Node& v);  ///< 0 ... 24 h
std::optional<Duration> interval(MistakeCollector& c, const Node& v);  ///< at least 1 ms
std::optional<std::string> text(MistakeCollector& c, const Node& v);   ///< at most 256 bytes
std::optional<std::string> name(MistakeCollector& c,
                                const Node& v);  ///< not empty, at most 256 bytes
std::optional<std::string> pattern(MistakeCollector& c,
                                   const Node& v);  ///< shell pattern, not empty
std::optional<Regex> regex(MistakeCollector& c, const Node& v);
std::optional<uid_t> uid(MistakeCollector& c, const Node& v);
std::optional<std::vector<uid_t>> users(MistakeCollector& c, const Node& v);  ///< names or numbers
std::optional<std::map<std::string, std::string>> labels(MistakeCollector& c, const Node& v);

std::optional<Port> port(MistakeCollector& c, const Node& v);
std::optional<PortRange> port_range(MistakeCollector& c, const Node& v);
std::optional<PortRanges> port_list(MistakeCollector& c, const Node& v);
std::optional<PortRanges> some_ports(MistakeCollector& c, const Node& v);  ///< at least one
/// Shell pattern of an absolute path, or of an abstract name if it begins with '@'.
std::optional<std::string> unix_pattern(MistakeCollector& c, const Node& v);
std::optional<std::vector<std::string>> unix_patterns(MistakeCollector& c, const Node& v);
std::optional<std::vector<std::string>> some_unix_patterns(MistakeCollector& c,
                                                           const Node& v);  ///< at least one
std::optional<Target> target(MistakeCollector& c, const Node& v);
std::optional<HostPlace> host_place(MistakeCollector& c, const Node& v);  ///< a port or unix:/PATH
std::optional<std::string> preset(MistakeCollector& c, const Node& v);
std::optional<std::string> shared_socket(MistakeCollector& c, const Node& v);       ///< unix:/PATH
std::optional<std::string> inside_path(MistakeCollector& c, const Node& v);         ///< or @NAME
std::optional<std::optional<FileOwner>> owner(MistakeCollector& c, const Node& v);  ///< or ""
std::optional<mode_t> mode(MistakeCollector& c, const Node& v);
std::optional<IpAddress> address(MistakeCollector& c, const Node& v);
std::optional<std::vector<IpAddress>> address_list(MistakeCollector& c, const Node& v);
std::optional<Bind> bind(MistakeCollector& c, const Node& v);

/// Nothing in the inner optional means "auto".
std::optional<std::optional<Duration>> poll_interval(MistakeCollector& c, const Node& v);
std::optional<Allocation> allocation(MistakeCollector& c, const Node& v);
std::optional<Direction> direction(MistakeCollector& c, const Node& v);
std::optional<Protocol> protocol(MistakeCollector& c, const Node& v);
std::optional<ProxyProtocol> proxy_protocol(MistakeCollector& c, const Node& v);
std::optional<std::string> on_auto_forward(MistakeCollector& c, const Node& v);
std::optional<std::string> scheme(MistakeCollector& c, const Node& v);
}  // namespace portfwd::read

namespace portfwd {

/// Reads all sections of one file into `settings`: keys replace what is there, rules and forwards
/// are appended. What is wrong goes into the complaints.
void read_sections(MistakeCollector& complaints, const toml::table& root, Settings& settings);

}  // namespace portfwd
