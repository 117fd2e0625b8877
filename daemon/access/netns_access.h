// The way into one network namespace: a watch on its listeners and a dialer, whatever they are made
// of. Owned by the SharedNetns; its open files and sockets pin the namespace, so it dies with the
// last container in there. It knows neither containers nor forwards.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "access/container_access.h"
#include "access/listener_names.h"
#include "access/port_watch.h"

namespace portfwd {

class NetnsAccess;

class NetnsAccessObserver {
 public:
  /// `access.listeners()` is not what it was. Called from the loop.
  virtual void on_listeners(NetnsAccess& access) = 0;

 protected:
  ~NetnsAccessObserver() = default;
};

/// An implementation says what the watch looks with (DiagProvider) and what is dialled.
class NetnsAccess : private WatchObserver, protected DiagProvider {
 public:
  struct Parts {
    PortWatch::Shared watching;
    ProcessNames& names;
    NetnsAccessObserver& observer;
  };
  NetnsAccess(const NetnsAccess&) = delete;
  NetnsAccess& operator=(const NetnsAccess&) = delete;
  virtual ~NetnsAccess() = default;

  [[nodiscard]] virtual AccessKind kind() const = 0;
  [[nodiscard]] virtual Dialer& dialer(Protocol protocol) = 0;
  /// Ordered, process names filled in as far as they can be known. A new one is there once its
  /// program has been looked for.
  [[nodiscard]] const std::vector<Listener>& listeners() const { return listeners_; }
  void expedite() { watch_.expedite(); }
  void poll_now() { watch_.poll_now(); }
  /// There may be something better to look with than what there was.
  void renew_source() { watch_.renew_source(); }
  /// Whether what was open at the start is shown; see PortWatch.
  [[nodiscard]] bool settled() const { return watch_.settled() && names_.settled(); }
  /// See ContainerAccess.
  [[nodiscard]] virtual TakenPort listen_inside(Port port, InsidePortHandler& handler) = 0;

 protected:
  /// @param pid, netns as PortWatch has them
  NetnsAccess(const Parts& parts, pid_t pid, std::uint64_t netns);

  /// These are the listeners now: marks those that can't be dialled, has sockets ready for the
  /// others.
  virtual void prepare(std::vector<Listener>& now) = 0;
  /// What can be dialled may have changed: prepares anew and tells.
  void reconsider();
  [[nodiscard]] PortWatch& watch() { return watch_; }

 private:
  void on_listeners(Watcher& watcher) override;

  NetnsAccessObserver& observer_;
  ListenerNames names_;
  std::vector<Listener> listeners_;
  PortWatch watch_;
};

}  // namespace portfwd
