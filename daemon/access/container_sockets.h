// Access to the Unix sockets of one container: dials them, and binds others there. Owned by the
// container's NetnsMember. Paths are looked up in the root of the container's anchor process, by
// processes that serve no other container (PathBroker), which start with the first request.
#pragma once

#include <sys/types.h>

#include <cassert>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "access/container_access.h"
#include "access/port_watch.h"
#include "broker/client/broker_launcher.h"
#include "broker/client/path_broker.h"
#include "discover/container.h"
#include "event/event_loop.h"
#include "relay/connection.h"
#include "relay/dialer.h"

namespace portfwd {

// The path brokers of all containers. Owned by main. One that is released continues until it has
// removed the sockets that it had bound.
class PathBrokers {
 public:
  struct Release {
    PathBrokers* owner = nullptr;
    void operator()(PathBroker* broker) const { owner->release(broker); }
  };
  using Lease = std::unique_ptr<PathBroker, Release>;

  PathBrokers(EventLoop& loop, std::shared_ptr<BrokerLauncher> launcher, UnixCarriers& carriers)
      : loop_(loop),
        launcher_(std::move(launcher)),
        carriers_(carriers),
        timer_(loop, [this] { end_idle(); }) {}
  PathBrokers(const PathBrokers&) = delete;
  PathBrokers& operator=(const PathBrokers&) = delete;
  ~PathBrokers() { assert(leased_.empty()); }

  /// @param key of the place, for UnixCarriers
  [[nodiscard]] Lease make(PathPlace place, const std::string& key);
  /// Whether a request is in progress, such as the removal of a socket.
  [[nodiscard]] bool busy() const;
  /// Processes that were killed and have not exited, for `status`.
  [[nodiscard]] std::vector<pid_t> stuck() const;

 private:
  /// Until the next look at brokers that were released.
  static constexpr Duration kPause = std::chrono::milliseconds(20);

  void release(PathBroker* broker);
  void end_idle();

  EventLoop& loop_;
  std::shared_ptr<BrokerLauncher> launcher_;
  UnixCarriers& carriers_;
  std::vector<PathBroker*> leased_;
  std::vector<std::unique_ptr<PathBroker>> released_;
  Timer timer_;
};

class ContainerSockets {
 public:
  /// @param brokers, container borrowed
  ContainerSockets(EventLoop& loop, PathBrokers& brokers, const Container& container);
  ContainerSockets(const ContainerSockets&) = delete;
  ContainerSockets& operator=(const ContainerSockets&) = delete;
  ~ContainerSockets();

  /// Must be called when another process may be the container's anchor.
  void update_anchor();

  /// A dialer of UnixPath and AbstractName, valid as long as this object. Its attempts fail with
  /// ESRCH if the container has no process, and with EACCES if its root may not be entered.
  [[nodiscard]] Dialer& dialer(const DialOptions& options);
  /// See ContainerAccess. @param watch of the namespace, which ignores the daemon's own sockets;
  /// borrowed by the InsidePort
  [[nodiscard]] Answer<std::unique_ptr<InsidePort>> listen_inside(const InsidePlace& place,
                                                                  PortWatch& watch,
                                                                  OnInsidePort on_port);

 private:
  class SocketDialer;
  [[nodiscard]] Result<PathPlace> open_place() const;
  [[nodiscard]] Result<PathBroker*> broker();

  EventLoop& loop_;
  PathBrokers& brokers_;
  const Container& container_;
  pid_t anchor_ = 0;  ///< whose root broker_ has
  PathBrokers::Lease broker_;
  std::vector<std::unique_ptr<SocketDialer>> dialers_;
};

}  // namespace portfwd
