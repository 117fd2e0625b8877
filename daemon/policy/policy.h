// The policy: whether a listener is forwarded, how, and why. decide() tries in this order: whether
// the listener is detected and can be dialled, the first rule that matches, what the container
// requests, whether it is the end of an ssh tunnel, whether the engine publishes the port, and
// [ports] or [unix]. Functions of settings, container and listener; nothing else decides.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "access/listener.h"
#include "config/settings.h"
#include "discover/container.h"
#include "policy/container_wishes.h"

namespace portfwd {

/// Matches a shell pattern; '*' includes slashes and leading dots. Source: fnmatch(3) without
/// flags.
[[nodiscard]] bool matches_pattern(const std::string& pattern, const std::string& text);

/// Whether all conditions hold. A condition on a program or label that is unknown does not.
[[nodiscard]] bool matches(const Conditions& when, const Container& container,
                           const Listener& listener);

/// Whether all conditions hold and none is on the listener.
[[nodiscard]] bool matches_whole(const Conditions& when, const Container& container);
/// Whether the conditions on the container hold, so that all could hold for one of its listeners.
[[nodiscard]] bool may_match(const Conditions& when, const Container& container);

/// For the user: the conditions that do not hold, each with the actual value; "" if all hold. Such
/// as `process is "nginx", not "postgres"`.
[[nodiscard]] std::string mismatch_text(const Conditions& when, const Container& container,
                                        const Listener& listener);

/// All properties of a forward that the policy decides.
struct Treatment {
  std::string on_auto_forward = "notify";
  std::string label;
  std::string scheme = "http";
  std::optional<Port> host_port;   ///< to try first; nothing: HostPortPlan chooses
  bool require_host_port = false;  ///< no other host port than the first choice
  /// Where a forward that listens at a path does so; "": HostPaths chooses.
  std::string host_path;
  SocketOptions socket;
  std::optional<SocketType> socket_type;  ///< of its listener; nothing: it has none
  std::optional<Bind> bind;               ///< nothing: as in [host]
  bool restrict_to_user = true;
  bool allow_remote = false;
  std::vector<uid_t> allow_users;
  ProxyProtocol proxy_protocol = ProxyProtocol::Off;
  friend bool operator==(const Treatment&, const Treatment&) = default;
};

/// The limit on detected forwards of one container to targets of this kind; nothing if only [host]
/// max_forwards counts.
[[nodiscard]] std::optional<unsigned> most_of_kind(const Settings& settings, const Target& target);

/// The kind of socket with which a forward to this target listens on the host: a Unix socket if the
/// target is one, unless a host port is asked for.
[[nodiscard]] inline Protocol host_side(const Target& target, const Treatment& treatment) {
  const bool path = target.protocol() == Protocol::Unix && !treatment.host_port;
  return path ? Protocol::Unix : target.host_port_protocol();
}

struct Decision {
  bool forward = false;
  std::string because;  ///< a clause, as `explain` shows it
  Duration settle{};    ///< minimum age of the listener
  Treatment treatment;
};

/// Everything but container and listener that a decision depends on. Its parts are borrowed.
struct PolicyContext {
  const Settings& settings;
  PortRange ephemeral;  ///< net.ipv4.ip_local_port_range
  const MetadataPolicy& metadata_policy;
};

[[nodiscard]] Decision decide(const PolicyContext& context, const Container& container,
                              const Listener& listener);

/// The treatment if neither a rule nor the container says anything: as in [ports] and [host].
[[nodiscard]] Treatment default_treatment(const Settings& settings);

/// One sentence for each rule, in order: whether it matches, and why not.
[[nodiscard]] std::vector<std::string> rules_tried(const Settings& settings,
                                                   const Container& container,
                                                   const Listener& listener);

/// Why no port of the container, whatever its number, is forwarded automatically; "" if one could
/// be.
[[nodiscard]] std::string ignored_whole(const Settings& settings, const Container& container);

/// Which UDP sockets are watched. @param asked ports of requested forwards, watched in any case
[[nodiscard]] UdpInterest udp_interest(const Settings& settings, const PortRange& ephemeral,
                                       const std::vector<Port>& asked);

/// The host address at which the engine publishes a port of the container's own address, such as
/// "127.0.0.1:8080" or "port 8080 of every address"; "" if it does not.
[[nodiscard]] std::string published_at(const std::vector<PublishedPorts>& published,
                                       const Target& target);

/// The host port at which the engine publishes a port for clients of the loopback; nothing if it
/// does not.
[[nodiscard]] std::optional<Port> published_on_loopback(
    const std::vector<PublishedPorts>& published, const Target& target);

/// The host address at which the engine makes this listener reachable, such as "127.0.0.1:8080" or
/// "port 8080 of every address"; "" if it does not. docker-proxy, rootlessport and pasta lead to
/// the container's own address, so a listener on its loopback cannot be reached even if its port is
/// published. The listeners in rootlesskit's own namespace are the engine's port forwarders;
/// rootlesskit listens on the host at the same port for each.
[[nodiscard]] std::string published_at(const Container& container, const Listener& listener);

}  // namespace portfwd
