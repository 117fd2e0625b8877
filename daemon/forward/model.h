// The values that leave the core: what a forward, a container and an event look like from outside.
// Plain copies, made by the forward table; the bus and the log print them and change nothing.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "access/container_access.h"
#include "access/listener.h"
#include "base/clock.h"
#include "base/error.h"
#include "config/settings.h"
#include "discover/container.h"
#include "net/address.h"
#include "net/target.h"
#include "relay/forward_port.h"
#include "state/state.h"

namespace portfwd {

enum class Origin : std::uint8_t { Auto, Declared, Manual };
enum class ForwardState : std::uint8_t { Active, Waiting, Lingering, Conflict };

[[nodiscard]] std::string_view name_of(Origin v);        ///< "auto", "declared", "manual"
[[nodiscard]] std::string_view name_of(ForwardState v);  ///< "active", "waiting", ...
[[nodiscard]] std::string_view name_of(Direction v);     ///< "in", "reverse"

inline constexpr int kNotForOthers = EREMOTE;  // of no system call that a forward makes

struct ForwardInfo {
  std::string id;
  std::string container_id;  ///< "" while a manual forward waits for a container not there yet
  std::string container_name;
  std::string container_engine;
  Protocol protocol = Protocol::Tcp;
  Direction direction = Direction::In;
  std::string target;             ///< "8080"
  std::string container_address;  ///< the one dialled first
  Port container_port = 0;
  std::vector<std::string> host_addresses;  ///< the first is HostAddress; empty in `conflict`
  Port host_port = 0;                       ///< 0 in `conflict`
  Origin origin = Origin::Auto;
  ForwardState state = ForwardState::Active;
  /// errno: why in conflict, or why what listens cannot be dialled; 0: nothing failed.
  /// kNotForOthers stands for an address that other machines can reach, and may not.
  int error = 0;
  std::string reason;  ///< why remapped, waiting or in conflict; "" when there is nothing to say
  bool remapped =
      false;  ///< it has another host port than a person would expect; `reason` says why
  std::string label;
  std::string process;
  std::string url;
  std::string on_auto_forward = "notify";
  WallTime since{};
  Counters counters;

  friend bool operator==(const ForwardInfo&, const ForwardInfo&) = default;
};

struct ContainerInfo {
  std::string id;
  std::string name;
  std::string engine;
  uid_t uid = 0;
  pid_t pid = 0;
  std::uint64_t netns = 0;
  std::string image;
  std::string pod;
  std::string project;  ///< compose's
  std::string service;  ///< compose's
  std::map<std::string, std::string> labels;
  std::vector<PublishedPorts> published;  ///< by the engine itself
  ContainerState state = ContainerState::Watched;
  AccessKind reach = AccessKind::None;
  std::string reason;
  std::vector<Listener> listeners;
  bool ever_listened = false;  ///< `containers` without --all hides those with false here and below
  bool attached = false;       ///< and without an engine

  friend bool operator==(const ContainerInfo&, const ContainerInfo&) = default;
};

/// What ends a conflict that no other forward or program causes. @return "" when freeing the port
/// would end it
[[nodiscard]] std::string_view remedy_of(const ForwardInfo& conflict);

/// One thing that came or went. Sequence numbers have no gaps within an InstanceId. A container in
/// it is without its labels, listeners and published ports: each may be of some size, and a
/// thousand events are kept.
struct Event {
  enum class Type : std::uint8_t { PortAdded, PortRemoved, ContainerAdded, ContainerRemoved, Gap };
  std::uint64_t seq = 0;
  WallTime time{};
  Type type = Type::PortAdded;
  std::string reason;  ///< of PortRemoved: listener-closed, container-gone, unforwarded, ...
  std::variant<std::monostate, ForwardInfo, ContainerInfo> subject;
  std::uint32_t batch_size = 1;   ///< how many PortAdded one look caused
  std::uint32_t batch_index = 0;  ///< 0 ... batch_size - 1
};
[[nodiscard]] std::string_view name_of(Event::Type v);  ///< "PortAdded", ...

// What people asked for, by hand or in the configuration: one request for each manual or declared
// forward, kept while the container is away if it was said so. Owned by the ForwardTable.
struct ForwardRequest {
  ForwardSpec spec;  ///< its container is the name, once that is known
  std::string forward_id;
  std::string container_id;                    ///< "" while the container is away
  std::string lifeline;                        ///< bus name whose end ends the forward; "" for none
  Origin origin = Origin::Manual;              ///< or Declared
  bool by_container = false;                   ///< its own metadata asks for it, not the user
  std::string asked_by = "asked for by hand";  ///< for `explain`
  bool restored = false;  ///< nobody waits for an answer: a host port that is taken is a conflict

  /// Whether a container that has come is the one that was meant.
  [[nodiscard]] bool meant(const Container& container) const {
    return container_id.empty() && spec.container == container.name;
  }
};

/// Of what the configuration, or a container's metadata, declares. It waits for its container.
[[nodiscard]] ForwardRequest declared_request(const DeclaredForward& declared);
/// Of what the daemon's last life kept.
[[nodiscard]] ForwardRequest restored_request(ForwardSpec kept);

/// More than a person asks for, by hand and at a time.
inline constexpr std::ptrdiff_t kMostManualRequests = 256;

/// `by_hand` are there already: whether there may be one more.
[[nodiscard]] Answer<void> check_count(std::ptrdiff_t by_hand);

/// What a request says of a container, a target or a label is kept, told and logged: no more than
/// this many bytes of each.
inline constexpr std::size_t kLongestRequestText = 256;
/// @param what for the refusal, such as "the label"
[[nodiscard]] Answer<void> check_length(std::string_view what, std::string_view text);
/// Of all texts in it.
[[nodiscard]] Answer<void> check_lengths(const ForwardSpec& spec);

/// The checked form of what a person typed; refusals name the remedy.
[[nodiscard]] Answer<Target> check_target(std::string_view text);
/// @param allow_remote whether the configuration allows to listen for other machines
[[nodiscard]] Answer<void> check(const ForwardRequest& request, bool allow_remote);

/// The listeners of `all` that the request means: those on its port and, if it names an address
/// inside, reachable there and then dialled there.
[[nodiscard]] std::vector<Listener> listeners_meant(const ForwardRequest& request,
                                                    const std::vector<Listener>& all);

}  // namespace portfwd
