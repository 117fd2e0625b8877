// A [[rule]] and a [[forward]] of portfwd.toml(5) as values. What a rule means for a listener is
// for policy/ to say.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "config/forward_spec.h"
#include "config/mistake.h"
#include "config/port_range.h"
#include "config/regex.h"

namespace portfwd {

/// Where a forward listens on the host.
struct Bind {
  std::optional<IpAddress> only;  ///< nothing: "localhost", which is 127.0.0.1 and ::1
  [[nodiscard]] bool is_remote() const { return only && !only->is_loopback(); }
  friend bool operator==(const Bind&, const Bind&) = default;
};

enum class ProxyProtocol : std::uint8_t { Off, V1, V2 };

/// Which listeners a rule is about. All that is given must hold; what is left out always holds.
struct Conditions {
  std::optional<std::string> container;  ///< shell pattern, as the next three
  std::optional<std::string> engine;
  std::optional<std::string> image;
  std::optional<std::string> project;         ///< of compose
  std::map<std::string, std::string> labels;  ///< by name, a shell pattern each
  std::optional<Regex> process;               ///< on its name or its command line
  std::optional<uid_t> uid;                   ///< of the listener, as the container counts
  std::optional<IpAddress> address;           ///< that the listener is bound to
  std::optional<Protocol> protocol;           ///< Udp: looked for even where [detect] does not
  PortRanges ports;                           ///< empty: any
  friend bool operator==(const Conditions&, const Conditions&) = default;
};

/// What is to be done with a listener. What is left out is for somebody else to say: after the
/// user's rules what the container asks for, then [ports] and [host].
struct Outcome {
  std::optional<std::string> on_auto_forward;
  std::optional<Port> host_port;  ///< of the first port that the rule names
  std::optional<bool> require_host_port;
  std::optional<Duration> settle;
  std::optional<std::string> scheme;  ///< "http", "https"
  std::optional<ProxyProtocol> proxy_protocol;
  std::optional<bool> restrict_to_user;
  std::optional<std::vector<uid_t>> allow_users;  ///< besides this one
  std::optional<Bind> bind;
  std::optional<bool> allow_remote;
  std::optional<std::string> label;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

struct Rule : Conditions, Outcome {
  Place place;
  friend bool operator==(const Rule&, const Rule&) = default;
};

/// A [[forward]], or what the metadata of a container asks for. `host_port` is always there with
/// Reverse.
struct DeclaredForward : ForwardSpec {
  bool by_container = false;  ///< its own metadata asks for it, which gives way to the user's word
  Place place;
  friend bool operator==(const DeclaredForward&, const DeclaredForward&) = default;
};

}  // namespace portfwd
