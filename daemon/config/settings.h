// The configuration as values, with the defaults of portfwd.toml(5). Immutable once read; a reload
// replaces it as a whole.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "config/mistakes.h"
#include "config/regex.h"
#include "net/address.h"
#include "net/target.h"

namespace portfwd {

enum class Direction : std::uint8_t { In, Reverse };

/// The owner of a file, in the user namespace where it is made.
struct FileOwner {
  uid_t uid = 0;
  gid_t gid = 0;
  friend bool operator==(const FileOwner&, const FileOwner&) = default;
};

/// Parses "UID:GID".
[[nodiscard]] std::optional<FileOwner> parse_file_owner(std::string_view text);

/// How the daemon makes the Unix socket on which a forward listens, and how it connects to the one
/// at its target.
struct SocketOptions {
  std::optional<FileOwner>
      owner;                      ///< nothing: the daemon's user; inside, that of its first process
  mode_t mode = 0600;             ///< permission bits, 0 to 0777
  bool create_parents = false;    ///< make missing folders of its path
  bool pass_fds = false;          ///< pass descriptors on; otherwise they are refused
  std::optional<uid_t> peer_uid;  ///< connect as this user inside; nothing: as the daemon does
  friend bool operator==(const SocketOptions&, const SocketOptions&) = default;
};

/// A requested forward, whatever its source: the bus, the configuration, a container's own
/// metadata, or the saved state. A value, the same from the bus to the forward table to the state
/// file.
///
/// Direction::In: the `target` inside is reached at `host_port`. Reverse: `target` is listened on
/// inside and leads to the host's loopback at `host_port`.
struct ForwardSpec {
  std::string container;  ///< its name, or what the user typed
  Target target;
  Direction direction = Direction::In;
  std::optional<Port> host_port;  ///< nothing: as for a detected one; with Reverse the target's own
  std::string bind;               ///< "" (as in [host]), "localhost" or one address of the host
  std::string host_path;          ///< of a Unix socket on the host, in place of a host port; or ""
  SocketOptions socket;
  std::string container_address;  ///< "" or the one address inside that is used
  std::string label;
  bool persist = false;        ///< also after a restart of the daemon
  bool allow_missing = false;  ///< the container may not exist yet, and may return
  friend bool operator==(const ForwardSpec&, const ForwardSpec&) = default;
};

// A range of ports, as in "5000-6000".
struct PortRange {
  Port first = 1;
  Port last = 65535;  ///< not below `first`
  [[nodiscard]] bool contains(Port p) const { return first <= p && p <= last; }
  [[nodiscard]] std::string text() const {
    return first == last ? std::to_string(first)
                         : std::to_string(first) + "-" + std::to_string(last);
  }
  friend bool operator==(const PortRange&, const PortRange&) = default;
};

using PortRanges = std::vector<PortRange>;

[[nodiscard]] inline bool contains(const PortRanges& ranges, Port port) {
  for (const PortRange& range : ranges) {
    if (range.contains(port)) return true;
  }
  return false;
}

/// Where a forward listens on the host.
struct Bind {
  std::optional<IpAddress> only;  ///< nothing: "localhost", which is 127.0.0.1 and ::1
  [[nodiscard]] bool is_remote() const { return only && !only->is_loopback(); }
  friend bool operator==(const Bind&, const Bind&) = default;
};

enum class ProxyProtocol : std::uint8_t { Off, V1, V2 };

/// The listeners that a [[rule]] of portfwd.toml(5) applies to. All given conditions must hold; one
/// that is left out always holds.
struct Conditions {
  std::optional<std::string> container;  ///< shell pattern, like the next three
  std::optional<std::string> engine;
  std::optional<std::string> image;
  std::optional<std::string> project;         ///< of compose
  std::map<std::string, std::string> labels;  ///< by name, a shell pattern each
  std::optional<Regex> process;               ///< matches its name or its command line
  std::optional<uid_t> uid;             ///< of the listener, in the container's user namespace
  std::optional<IpAddress> address;     ///< that the listener is bound to
  std::optional<Protocol> protocol;     ///< Udp: detected even where [detect] does not
  PortRanges ports;                     ///< empty: any
  std::vector<std::string> unix_names;  ///< shell patterns as in [unix]; empty: any
  friend bool operator==(const Conditions&, const Conditions&) = default;
};

/// What is to be done with a listener. What is left out is decided by the container's metadata,
/// then by [ports] and [host].
struct Outcome {
  std::optional<std::string> on_auto_forward;
  std::optional<Port> host_port;  ///< for the first port that the rule names
  std::optional<bool> require_host_port;
  std::optional<Duration> settle;
  std::optional<std::string> scheme;  ///< "http", "https"
  std::optional<ProxyProtocol> proxy_protocol;
  std::optional<bool> restrict_to_user;
  std::optional<std::vector<uid_t>> allow_users;  ///< besides the daemon's user
  std::optional<Bind> bind;
  std::optional<bool> allow_remote;
  std::optional<std::string> label;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

struct Rule : Conditions, Outcome {
  Place place;
  friend bool operator==(const Rule&, const Rule&) = default;
};

/// A [[forward]], or a forward that a container's metadata requests. `host_port` is always set with
/// Reverse.
struct DeclaredForward : ForwardSpec {
  bool by_container = false;  ///< requested by its metadata; the user's own come first
  Place place;
  friend bool operator==(const DeclaredForward&, const DeclaredForward&) = default;
};

/// A [[share]]: a Unix socket of the host in every container whose name matches.
struct Share {
  std::string name;
  std::string container;  ///< shell pattern
  std::string preset;     ///< of net/presets.h; "": `host` is set
  std::string host;       ///< path on the host, with variables
  std::string inside;     ///< path; with a preset a folder, "" for kSharedFolder
  SocketOptions socket;
  Place place;
  friend bool operator==(const Share&, const Share&) = default;
};

enum class Allocation : std::uint8_t { SamePort, PerContainer };

struct Settings {
  struct Detect {
    std::optional<Duration> interval;  ///< nothing: "auto"
    Duration min_interval = std::chrono::milliseconds(20);
    Duration max_interval = std::chrono::seconds(1);
    double cpu_budget = 0.5;  ///< percent of one core
    bool udp = false;
    friend bool operator==(const Detect&, const Detect&) = default;
  } detect;

  struct Host {
    Bind bind;
    bool allow_remote = false;  ///< whether `bind`, here or in a rule, may be no loopback address
    bool restrict_to_user = true;
    Allocation allocation = Allocation::SamePort;
    PortRange fallback_range{20000, 29999};
    PortRanges avoid;
    bool sticky = true;
    Duration linger = std::chrono::seconds(2);
    Duration hold = std::chrono::seconds(5);
    Duration drain = std::chrono::seconds(5);
    Duration connect_timeout = std::chrono::seconds(10);
    unsigned max_forwards = 64;    ///< per container
    unsigned max_connections = 0;  ///< per forward; 0: as many as fds allow
    friend bool operator==(const Host&, const Host&) = default;
  } host;

  struct Ports {
    PortRanges include{{1, 65535}};
    PortRanges exclude{{22, 22}, {25, 25}, {53, 53}, {323, 323}, {5353, 5353}, {5355, 5355}};
    std::vector<IpAddress> ignore_addresses{IpAddress::v4(127, 0, 0, 11)};  ///< docker's resolver
    std::string on_auto_forward = "notify";
    friend bool operator==(const Ports&, const Ports&) = default;
  } ports;

  /// Unix sockets in containers. The patterns are for paths, in which '*' does not match '/', or
  /// begin with '@' and are for abstract names.
  struct Unix {
    std::vector<std::string> include;
    std::vector<std::string> exclude;
    unsigned max_sockets = 16;  ///< that are forwarded, per container
    friend bool operator==(const Unix&, const Unix&) = default;
  } unix_sockets;

  std::vector<Rule> rules;  ///< the first that matches decides
  std::vector<DeclaredForward> forwards;
  std::vector<Share> shares;

  friend bool operator==(const Settings&, const Settings&) = default;
};

}  // namespace portfwd
