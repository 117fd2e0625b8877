// The seam through which a container's listeners are learnt. A sock_diag watch, a procfs reader or
// a guest's agent implement it; nothing above knows which one it has.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "net/target.h"

namespace portfwd {

/// One socket inside a container in LISTEN state; of UDP one that is bound and not connected.
struct Listener {
  Protocol protocol = Protocol::Tcp;
  Address local;                ///< as bound inside
  bool v6only = false;          ///< an IPv6 wildcard that does not take IPv4 clients
  std::uint64_t cookie = 0;     ///< the socket's identity for life; 0 when it cannot be known
  std::uint32_t uid = 0;        ///< owner, as the container counts
  std::uint32_t inode = 0;      ///< of the socket, as in /proc/PID/fd
  std::uint64_t cgroup_id = 0;  ///< inode of the cgroup that made it; 0 when it cannot be known
  std::string process;          ///< the program's name (comm); empty when it cannot be known
  std::string command;  ///< its command line, words apart by a space, the first 4 KiB; as `process`
  bool opted_out = false;   ///< its environment says PORTFWD=off
  std::string unreachable;  ///< why it can't be dialled, remedy included; "" when it can

  /// What a person calls it.
  [[nodiscard]] Target target() const { return {protocol, local.ip().port}; }
  friend auto operator<=>(const Listener&, const Listener&) = default;
};

class Watcher;

class WatchObserver {
 public:
  /// The set of listeners is not what it was; `watcher.listeners()` has it, ordered.
  virtual void on_listeners(Watcher& watcher) = 0;

 protected:
  ~WatchObserver() = default;
};

class Watcher {
 public:
  virtual ~Watcher() = default;
  [[nodiscard]] virtual const std::vector<Listener>& listeners() const = 0;
  /// A sign of life (an exec inside, a client that waits): look soon and often for a while.
  virtual void expedite() = 0;
};

}  // namespace portfwd
