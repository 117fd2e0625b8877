// Access to one container: its listeners on one side, a dialer on the other. It is the only
// interface between discover, which finds containers, and forward, which makes forwards.
//
// Ownership in this folder. The AccessSet observes the registry and owns one ContainerAccess for
// each container, from on_access_added to on_access_removed, and one NetnsAccess for each network
// namespace that it can watch. Containers may share a namespace (a pod), so a NetnsAccess has one
// NetnsMember for each container, which is its ContainerAccess; it distributes the listeners over
// its members. The NetnsAccess owns the PortWatch, the names of the programs and the sockets made
// in the namespace. All of these pin the namespace, and all are destroyed with its last member. The
// Pace polls all watches within one CPU budget.
//
// State and kind determine what an access permits:
//
//   state         kind    listeners  can be dialled                   listen_inside
//   watched       broker  all        every listener                   yes
//   watched       helper  all        ports and abstract names         yes
//   watched       bridge  all        TCP at the container's addresses only once a helper is started
//   inaccessible  none    none       none; dialer() must not be used  no
//   ignored       none    none       none; dialer() must not be used  no; its ports are the host's
//
// The kind may change from bridge to helper; on_listeners is called then. A listener that cannot be
// dialled with its kind is reported with `unreachable` set, the reason and the remedy. An
// implementation needs neither a network namespace nor a process of this kernel.
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
#include "relay/stream_listener.h"

namespace portfwd {

enum class ContainerState : std::uint8_t { Watched, Inaccessible, Ignored };
enum class AccessKind : std::uint8_t { None, Broker, Helper, Bridge };

[[nodiscard]] std::string_view name_of(ContainerState v);  ///< "watched", "inaccessible", "ignored"
[[nodiscard]] std::string_view name_of(AccessKind v);      ///< "none", "broker", "helper", "bridge"

[[nodiscard]] std::string_view how(AccessKind v);  ///< a phrase for `explain`

/// Why a port or socket inside cannot be opened.
struct InsideFailure {
  Error error;       ///< EADDRINUSE, EACCES, ... or the failure of the broker
  std::string text;  ///< for the user, such as "a regular file is there"
};

using InsideSockets = std::expected<std::vector<BoundSocket>, InsideFailure>;

/// Called once, never from within ContainerAccess::listen_inside(). It may destroy the InsidePort.
/// The sockets are bound, not listening: of a port at 127.0.0.1, and at ::1 where the container has
/// it; or why it cannot be opened.
using OnInsidePort = std::move_only_function<void(InsideSockets sockets)>;

/// Where the daemon listens inside a container.
struct InsidePlace {
  Target target;         ///< a TCP port, or a Unix socket
  SocketOptions socket;  ///< of a Unix socket
};

/// A port or Unix socket inside a container that the daemon itself uses. While it lives, its
/// sockets are not reported as listeners. Destroying it cancels a request under way. It must be
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
  /// Why the container is inaccessible, or which of its ports cannot be reached, with the remedy;
  /// else "".
  [[nodiscard]] virtual const std::string& reason() const = 0;
  /// Ordered; process names are filled in where they are known.
  [[nodiscard]] virtual const std::vector<Listener>& listeners() const = 0;
  [[nodiscard]] virtual bool ever_listened() const = 0;
  /// Valid as long as this object. Must be called only while state() is Watched.
  [[nodiscard]] virtual Dialer& dialer(const DialOptions& options) = 0;
  /// Notifies of a sign of life, such as a waiting client: polls soon and often for a while.
  virtual void expedite() = 0;
  /// Notifies of evidence that listeners() is outdated, such as a client that was refused. Polls in
  /// full at once, even beyond the CPU budget, if the listeners are read from sock_diag; else as
  /// soon as the budget permits.
  virtual void poll_now() { expedite(); }
  /// Opens a port on the container's loopback, or a Unix socket, for the daemon's own use.
  /// @return the request, or why no socket can be made inside, with the remedy
  [[nodiscard]] virtual Answer<std::unique_ptr<InsidePort>> listen_inside(
      const InsidePlace& /*place*/, OnInsidePort /*on_port*/) {
    return refuse(Refusal::Kind::Inaccessible, "cannot make a socket in this container");
  }
};

class AccessObserver {
 public:
  virtual void on_access_added(ContainerAccess& access) = 0;
  /// Called when the container's name or facts have changed.
  virtual void on_access_changed(ContainerAccess& access) = 0;
  /// Called when the listeners or the kind have changed.
  virtual void on_listeners(ContainerAccess& access) = 0;
  /// The last call for this access. Dials through it must be over when it returns.
  virtual void on_access_removed(ContainerAccess& access, RemovalReason reason) = 0;

 protected:
  ~AccessObserver() = default;
};

// Remedies: how the user could permit access to a container of root, as phrases. They are computed
// when a message needs them, and change nothing.
//
// A process has the groups that it was started with. The user's service manager, and with it the
// daemon, gets them when the first session of the user begins, and keeps them until ten seconds
// after the last session has ended, or forever if the user lingers. So neither newgrp(1), which
// affects only its own shell, nor a restart of the daemon is enough. Source: credentials(7),
// user@.service(5), logind.conf(5): UserStopDelaySec=.

/// The remedy that works for any container.
inline constexpr std::string_view kRunRootless = "run the container rootless";

struct User {
  std::string name;  ///< login name; may be empty when unknown
  uid_t uid = 0;
};

/// How the user can get access to the socket of an engine: through the group that owns it, as in
/// "join the group docker: `sudo ...". If the user is a member already, but the running sessions
/// began before that, how to activate the membership. "" when the socket does not exist or no group
/// may write to it. Never suggests the group of root.
/// @param groups path of a file in the format of group(5)
[[nodiscard]] std::string hint_to_join_group(const std::string& socket, const User& user,
                                             const char* groups = "/etc/group");

}  // namespace portfwd
