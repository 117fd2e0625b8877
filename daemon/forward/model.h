// The values of the core's interface: forwards, containers and events as they are shown, and
// requests for forwards. All are plain copies. Forwards make a ForwardInfo and the Controller a
// ContainerInfo; the bus, the log and `explain` print them.
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
#include "base/remedy.h"
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

/// In ForwardInfo::error: other machines can reach the host address, and must not. No system call
/// of a forward fails with it.
inline constexpr int kRemoteForbidden = EREMOTE;

struct ForwardInfo {
  std::string id;
  std::string container_id;  ///< "" while the container is away
  std::string container_name;
  std::string container_engine;
  Protocol protocol = Protocol::Tcp;
  Direction direction = Direction::In;
  std::string target;             ///< "8080"
  std::string container_address;  ///< dialled first; of a reverse forward, listened on
  Port container_port = 0;
  std::vector<std::string> host_addresses;  ///< the first is HostAddress; empty until bound
  Port host_port = 0;                       ///< 0 until bound, or if it listens at a path
  std::string host_path;                    ///< of its Unix socket on the host; else ""
  std::string container_path;               ///< of a Unix socket inside, or "@NAME"; else ""
  std::string socket_type;                  ///< of a Unix socket inside; else ""
  Origin origin = Origin::Auto;
  ForwardState state = ForwardState::Active;
  bool pending = false;  ///< the sockets on which it will listen are being made
  /// errno, or kRemoteForbidden: why it is in conflict, or why its listener cannot be dialled; 0:
  /// nothing failed.
  int error = 0;
  std::string reason;     ///< why remapped, waiting or in conflict; "" if none of these
  bool remapped = false;  ///< it has another host port than the user would expect
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
  std::string project;  ///< of compose
  std::string service;  ///< of compose
  std::map<std::string, std::string> labels;
  std::vector<PublishedPorts> published;  ///< ports that the engine itself forwards
  ContainerState state = ContainerState::Watched;
  AccessKind reach = AccessKind::None;
  std::string reason;
  std::vector<Listener> listeners;
  /// `containers` without --all leaves out containers without an engine that never had a listener
  /// and were not attached.
  bool ever_listened = false;
  bool attached = false;

  friend bool operator==(const ContainerInfo&, const ContainerInfo&) = default;
};

/// The remedies for a conflict that is not caused by another forward or program. @return none if
/// the conflict ends when the port is free
[[nodiscard]] std::vector<Remedy> remedies_of(const ForwardInfo& conflict);

/// A forward or container that was added or removed, or a Gap in the numbers. Sequence numbers have
/// no gaps within an InstanceId. A container in an event has no labels, listeners and published
/// ports: they may be large, and a thousand events are kept.
struct Event {
  enum class Type : std::uint8_t { PortAdded, PortRemoved, ContainerAdded, ContainerRemoved, Gap };
  std::uint64_t seq = 0;
  WallTime time{};
  Type type = Type::PortAdded;
  std::string reason;  ///< of a removal: listener-closed, container-gone, ...; of a Gap
  std::variant<std::monostate, ForwardInfo, ContainerInfo> subject;
  std::uint32_t batch_size = 1;   ///< how many PortAdded are announced together
  std::uint32_t batch_index = 0;  ///< 0 ... batch_size - 1
};
[[nodiscard]] std::string_view name_of(Event::Type v);  ///< "PortAdded", ...

// The request for one manual or declared forward. It may outlive its container if it is reverse, or
// has allow_missing or persist. Owned by the RequestBook.
struct ForwardRequest {
  ForwardSpec spec;  ///< `container` is the name, once that is known
  std::string forward_id;
  std::string container_id;                   ///< "" while the container is away
  std::string lifeline;                       ///< bus name with which the forward ends; "": none
  Origin origin = Origin::Manual;             ///< or Declared
  bool by_container = false;                  ///< the container's own metadata asks for it
  std::string asked_by = "a manual request";  ///< for `explain`
  /// From the daemon's last run: no caller waits for an answer, so a port that is taken is a
  /// conflict and not a refusal.
  bool restored = false;

  /// Whether the request waits for this container.
  [[nodiscard]] bool waits_for(const Container& container) const {
    return container_id.empty() && spec.container == container.name;
  }
};

/// The request for a declaration of the configuration or of a container's metadata. It outlives its
/// container.
[[nodiscard]] ForwardRequest declared_request(const DeclaredForward& declared);
/// The request for a persistent forward of the daemon's last run.
[[nodiscard]] ForwardRequest restored_request(ForwardSpec kept);

/// The name of a target in a sentence: "port 8080", "socket /run/app.sock". Printable.
[[nodiscard]] std::string named(const Target& target);

/// A limit above what users need.
inline constexpr std::ptrdiff_t kMostManualRequests = 256;

/// Checks whether one more manual request is permitted. @param by_hand how many there are
[[nodiscard]] Answer<void> check_count(std::ptrdiff_t by_hand);

/// Most bytes of each text of a request (container, target, label, ...), since it is kept, shown
/// and logged.
inline constexpr std::size_t kLongestRequestText = 256;
/// Refuses a text of more than kLongestRequestText bytes. @param what such as "the label"
[[nodiscard]] Answer<void> check_length(std::string_view what, std::string_view text);
/// check_length() for all texts of a request.
[[nodiscard]] Answer<void> check_lengths(const ForwardSpec& spec);

/// Parses a target that the user wants forwarded, which must be a TCP or UDP port. Refusals name
/// the remedy.
[[nodiscard]] Answer<Target> check_target(std::string_view text);
/// Parses a target that the user asks about: also a Unix socket, even one with a relative path,
/// which cannot be forwarded.
[[nodiscard]] Answer<Target> check_explained_target(std::string_view text);
/// Reads where a forward is on the host: "unix:/PATH", or a port. @param into gets host_path or
/// host_port
[[nodiscard]] Answer<void> read_host(std::string_view text, ForwardSpec& into);
/// Reads "UID:GID".
[[nodiscard]] Answer<void> read_owner(std::string_view text, SocketOptions& into);
/// Checks the fields of a request and their combination. @param allow_remote whether the
/// configuration permits host addresses that other machines can reach
[[nodiscard]] Answer<void> check(const ForwardRequest& request, bool allow_remote);

/// The listeners that a request is for: those on its port that can be dialled. If the request names
/// an address inside, only those that accept there, with that address to be dialled.
[[nodiscard]] std::vector<Listener> listeners_for(const ForwardRequest& request,
                                                  const std::vector<Listener>& all);

}  // namespace portfwd
