// What is to be done with a listener, and why: the user's rules, then what the container asks for,
// then what its engine does already, then [ports] and [host]. Pure functions of container, listener
// and settings; nothing else decides.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "access/listener.h"
#include "config/settings.h"
#include "discover/container.h"
#include "policy/container_wishes.h"

namespace portfwd {

// Whether a rule is about a listener: its conditions, one after another. Pure functions; what
// follows from a match is for policy to say.
/// Whether all conditions hold. A program or label that can't be known holds for none.
[[nodiscard]] bool matches(const Conditions& when, const Container& container,
                           const Listener& listener);

/// Whether the conditions are about the container alone, and hold.
[[nodiscard]] bool matches_whole(const Conditions& when, const Container& container);
/// Whether they could hold for some listener of this container.
[[nodiscard]] bool may_match(const Conditions& when, const Container& container);

/// For people: the conditions that don't hold, each with what was seen instead; "" when all do.
/// Such as `process is "nginx", not "postgres"`.
[[nodiscard]] std::string mismatch_text(const Conditions& when, const Container& container,
                                        const Listener& listener);

/// How a forward is to be, every key decided.
struct Treatment {
  std::string on_auto_forward = "notify";
  std::string label;
  std::string scheme = "http";
  std::optional<Port> host_port;   ///< wished for; nothing: the port's own number
  bool require_host_port = false;  ///< that one, or `conflict`
  std::optional<Bind> bind;        ///< nothing: as [host] has it
  bool restrict_to_user = true;
  bool allow_remote = false;
  std::vector<uid_t> allow_users;
  ProxyProtocol proxy_protocol = ProxyProtocol::Off;
  friend bool operator==(const Treatment&, const Treatment&) = default;
};

struct Decision {
  bool forward = false;
  std::string because;  ///< one sentence, as `explain` shows it
  Duration settle{};    ///< so long the listener must have lived first
  Treatment treatment;
};

/// What is known of the host and matters to a decision.
struct PolicyContext {
  const Settings& settings;
  PortRange ephemeral;            ///< net.ipv4.ip_local_port_range
  const ContainerWishes& wishes;  ///< borrowed
};

[[nodiscard]] Decision decide(const PolicyContext& context, const Container& container,
                              const Listener& listener);

/// For a forward that was asked for, not detected: as [host] has it.
[[nodiscard]] Treatment default_treatment(const Settings& settings);

/// Each rule in order, with why it did or didn't decide; a sentence each.
[[nodiscard]] std::vector<std::string> rules_tried(const Settings& settings,
                                                   const Container& container,
                                                   const Listener& listener);

/// Why none of the container's ports is forwarded automatically, whatever they are; "" when some
/// might be.
[[nodiscard]] std::string ignored_whole(const Settings& settings, const Container& container);

/// @param asked UDP ports that somebody wants forwarded, whatever the settings say
[[nodiscard]] UdpInterest udp_interest(const Settings& settings, const PortRange& ephemeral,
                                       const std::vector<Port>& asked);

/// Where on the host the engine leads to a port of the container's own address, such as
/// "127.0.0.1:8080" or "port 8080 of every address"; "" when it doesn't.
[[nodiscard]] std::string published_at(const std::vector<PublishedPorts>& published,
                                       const Target& target);

/// The host port at which clients of the loopback get there; nothing when they don't.
[[nodiscard]] std::optional<Port> published_on_loopback(
    const std::vector<PublishedPorts>& published, const Target& target);

/// Where the engine makes this listener reachable on the host, such as "127.0.0.1:8080" or "port
/// 8080 of every address"; "" where it doesn't: docker-proxy, rootlessport and pasta lead to the
/// container's own address, so a listener on its loopback is not reached although its port is
/// published. In rootlesskit's own namespace listen the engine's forwarders, and on the host, at
/// the same port, rootlesskit for them.
[[nodiscard]] std::string published_at(const Container& container, const Listener& listener);

// The containers whose detected forwards count together against `max_forwards`: an engine's
// container with the sandboxes inside it, or all network namespaces below one user namespace, since
// whoever may make one there may make any number. Owned by the ForwardTable.
//
// States of a group: within the limit, or over it, which is told once, until none of its containers
// lacks a forward.
class ForwardGroups {
 public:
  /// Puts a container into the group that it belongs to by what is known of it now.
  /// @param engines containers of engines @param automatic its detected forwards
  void join(const Container& container, std::span<const Container* const> engines,
            std::size_t automatic);
  /// Forgets a container, and the group with its last member.
  void leave(const std::string& container_id);
  /// A detected forward came (1) or went (-1). @return the containers that may have one more now
  std::vector<std::string> count(const std::string& container_id, int change);
  /// The detected forwards that count together with the container's.
  [[nodiscard]] std::size_t automatic(const std::string& container_id) const;
  /// Whether the container lacks a forward for the limit. @return whether the group is over the
  /// limit since now
  bool set_over(const std::string& container_id, bool over);

 private:
  struct Group {
    std::set<std::string> members;  ///< ids of containers
    std::set<std::string> over;     ///< those that lack a forward for the limit
    std::size_t automatic = 0;      ///< detected forwards that exist
  };
  [[nodiscard]] Group& group_of_member(const std::string& container_id);
  void take_out(const std::string& container_id, std::size_t automatic);

  std::map<std::string, Group> groups_;
  std::map<std::string, std::string> keys_;  ///< of the group that a container is in
};

/// The key of the container's group: the engine's container that it is, or whose cgroup it is in;
/// else the direct child of our user namespace that owns its network namespace, or contains the
/// owner; else the container alone. A process inside can change none of them.
/// @param engines containers of engines
[[nodiscard]] std::string group_of(const Container& container,
                                   std::span<const Container* const> engines);

}  // namespace portfwd
