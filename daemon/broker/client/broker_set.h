// All brokers of the daemon: one for each user namespace that is a direct child of the daemon's
// own, serving every network namespace in and below it. Owned by main, outlives the clients. A
// broker lives as long as somebody holds its client; this only remembers which there are. It knows
// nothing of containers.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "base/error.h"
#include "broker/client/broker_client.h"
#include "broker/client/broker_launcher.h"
#include "event/event_loop.h"

namespace portfwd {

/// On whose behalf namespaces are entered.
struct NamespaceOwner {
  uid_t uid = 0;
  bool privileged = false;  ///< has CAP_SYS_ADMIN in its own user namespace
  [[nodiscard]] static NamespaceOwner this_process();
};

class BrokerSet {
 public:
  BrokerSet(EventLoop& loop, std::shared_ptr<BrokerLauncher> launcher, NamespaceOwner owner);

  /// The broker that can make sockets in this network namespace. Starts nothing: its first call
  /// does. Hold it as long as the container lives; all containers of one user namespace get the
  /// same.
  /// @param netns borrowed
  /// @return EPERM when it is above our user namespace, another user's, or our own user namespace's
  /// without privilege in it; ENOTTY when it is no namespace at all.
  [[nodiscard]] Result<std::shared_ptr<BrokerClient>> enter(int netns);

  /// Of the brokers that run now: discovery must not take their home for a container.
  [[nodiscard]] std::vector<pid_t> pids() const;
  [[nodiscard]] std::uint64_t failures() const;  ///< of all brokers that are held now

 private:
  EventLoop& loop_;
  std::shared_ptr<BrokerLauncher> launcher_;
  NamespaceOwner owner_;
  /// Those that are held, by the inode of the user namespace that each has joined.
  std::map<std::uint64_t, std::weak_ptr<BrokerClient>> brokers_;
};

}  // namespace portfwd
