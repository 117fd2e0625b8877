// Access to one container: its listeners on one side, a dialer on the other. The only seam between
// "which containers there are" (discover) and "which forwards there are" (forward).
//
// Who owns what in this folder. The AccessSet follows the registry and owns one ContainerAccess for
// each container, from on_access_added to on_access_removed, and one NetnsAccess for each network
// namespace that it can see into. Containers may share a namespace (a pod), so a NetnsAccess has
// NetnsMembers, which are their ContainerAccess; it distributes the listeners over them. The
// NetnsAccess owns the PortWatch, the programs' names and the sockets made in the namespace; all of
// these pin the namespace, and all go with its last member. The Pace polls all watches within one
// CPU budget.
//
// State and kind say what an access permits:
//
//   state         kind    listeners  dialer                           listen_inside
//   watched       broker  all        any of them                      yes
//   watched       helper  all        any of them                      yes
//   watched       bridge  all        TCP at the container's addresses only once a helper is started
//   inaccessible  none    none       must not be asked for            no
//   ignored       none    none       must not be asked for            no; its ports are the host's
//
// The kind may change between bridge and helper; on_listeners is called then. A listener that its
// kind cannot dial is reported with `unreachable`, the reason and the remedy. An implementation
// needs neither a network namespace nor a process of this kernel.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "access/listener.h"
#include "discover/container.h"
#include "relay/dialer.h"
#include "relay/host_listener.h"

namespace portfwd {

enum class ContainerState : std::uint8_t { Watched, Inaccessible, Ignored };
enum class AccessKind : std::uint8_t { None, Broker, Helper, Bridge };

[[nodiscard]] std::string_view name_of(ContainerState v);  ///< "watched", "inaccessible", "ignored"
[[nodiscard]] std::string_view name_of(AccessKind v);      ///< "none", "broker", "helper", "bridge"

[[nodiscard]] std::string_view how(AccessKind v);  ///< a sentence for `explain`

/// Called once, never from within ContainerAccess::listen_inside(). It may destroy the InsidePort.
/// The sockets are bound, not listening: 127.0.0.1, and ::1 where the container has it; or why the
/// port cannot be opened: EADDRINUSE, EACCES, ... or the failure of the broker.
using OnInsidePort = std::move_only_function<void(Result<std::vector<BoundSocket>> sockets)>;

/// A port inside a container that the daemon itself uses. While it lives, its sockets are not
/// reported as listeners. Destroying it cancels a request under way. It must be
/// destroyed before its ContainerAccess, and after the sockets.
class InsidePort {
 public:
  virtual ~InsidePort() = default;
};

class ContainerAccess {
 public:
  virtual ~ContainerAccess() = default;
  [[nodiscard]] virtual const Container& container() const = 0;
  [[nodiscard]] virtual ContainerState state() const = 0;
  [[nodiscard]] virtual AccessKind kind() const = 0;
  /// Why it is inaccessible, or which of its ports is not reached, remedy included; else "".
  [[nodiscard]] virtual const std::string& reason() const = 0;
  /// Ordered, process names filled in as far as they can be known.
  [[nodiscard]] virtual const std::vector<Listener>& listeners() const = 0;
  [[nodiscard]] virtual bool ever_listened() const = 0;
  /// Must be called only while state() is Watched.
  [[nodiscard]] virtual Dialer& dialer(Protocol protocol) = 0;
  /// A sign of life, such as a client that waits: polls soon and often for a while.
  virtual void expedite() = 0;
  /// Evidence that listeners() is outdated, such as a client that was refused: polls in full at
  /// once, whatever it costs.
  virtual void poll_now() { expedite(); }
  /// Opens a port on the container's loopback for the daemon.
  /// @return the request, or why no socket can be made inside, remedy included
  [[nodiscard]] virtual Answer<std::unique_ptr<InsidePort>> listen_inside(
      Port /*port*/, OnInsidePort /*on_port*/) {
    return refuse(Refusal::Kind::Inaccessible, "no socket can be made in there");
  }
};

class AccessObserver {
 public:
  virtual void on_access_added(ContainerAccess& access) = 0;
  /// The container's name or facts changed.
  virtual void on_access_changed(ContainerAccess& access) = 0;
  /// The listeners or the kind changed.
  virtual void on_listeners(ContainerAccess& access) = 0;
  /// The last call for it; dials through it must be over at the return.
  virtual void on_access_removed(ContainerAccess& access, RemovalReason reason) = 0;

 protected:
  ~AccessObserver() = default;
};

// Hints at how the user could permit access to a container of root, as words for remedies. Computed
// when a remedy is shown; nothing is changed here.
//
// A process has the groups that it was started with. The user's service manager, and with it the
// daemon, gets them when the first session of the user begins, and keeps them until ten seconds
// after the last one has ended, or forever if the user lingers. So neither newgrp(1), which changes
// its own shell alone, nor a restart of the daemon is enough. Source: credentials(7),
// user@.service(5), logind.conf(5): UserStopDelaySec=.
/// The remedy that works for any container.
inline constexpr std::string_view kRunRootless = "run the container rootless";

struct User {
  std::string name;  ///< of the login; may be empty when it cannot be known
  uid_t uid = 0;
};

/// How the user obtains the use of an engine's socket: by the group that owns it, as in "join the
/// group docker: `sudo ...". Another text for a member of the group whose sessions began before.
/// "" when there is no socket or no group may use it. The group of root is never suggested.
/// @param groups a file as group(5) has it
[[nodiscard]] std::string hint_to_join_group(const std::string& socket, const User& user,
                                             const char* groups = "/etc/group");

}  // namespace portfwd
