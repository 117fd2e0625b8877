// The way into one network namespace: a watch on its listeners and a dialer, whatever they are made
// of. Owned by the SharedNetns; its open files and sockets pin the namespace, so it dies with the
// last container in there. It knows neither containers nor forwards.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "reach/listener_names.h"
#include "reach/reach.h"
#include "watch/port_watch.h"

namespace portfwd {

class Access;

class AccessObserver {
 public:
  /// `access.listeners()` is not what it was. Called from the loop.
  virtual void on_listeners(Access& access) = 0;

 protected:
  ~AccessObserver() = default;
};

/// An implementation says what the watch looks with (DiagProvider) and what is dialled.
class Access : private WatchObserver, protected DiagProvider {
 public:
  struct Parts {
    PortWatch::Shared watching;
    ProcessNames& names;
    AccessObserver& observer;
  };
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;
  virtual ~Access() = default;

  [[nodiscard]] virtual ReachKind kind() const = 0;
  [[nodiscard]] virtual Dialer& dialer(Protocol protocol) = 0;
  /// Ordered, process names filled in as far as they can be known. A new one is there once its
  /// program has been looked for.
  [[nodiscard]] const std::vector<Listener>& listeners() const { return listeners_; }
  void hurry() { watch_.hurry(); }
  void look_again() { watch_.look_again(); }
  /// There may be something better to look with than what there was.
  void renew_source() { watch_.renew_source(); }
  /// Whether what was open at the start is shown; see PortWatch.
  [[nodiscard]] bool settled() const { return watch_.settled() && names_.settled(); }
  /// See Reach.
  [[nodiscard]] virtual TakenPort take_port(Port port, InsidePortHandler& handler) = 0;

 protected:
  /// @param pid, netns as PortWatch has them
  Access(const Parts& parts, pid_t pid, std::uint64_t netns);

  /// These are the listeners now: marks those that can't be dialled, has sockets ready for the
  /// others.
  virtual void prepare(std::vector<Listener>& now) = 0;
  /// What can be dialled may have changed: prepares anew and tells.
  void reconsider();
  [[nodiscard]] PortWatch& watch() { return watch_; }

 private:
  void on_listeners(Watcher& watcher) override;

  AccessObserver& observer_;
  ListenerNames names_;
  std::vector<Listener> listeners_;
  PortWatch watch_;
};

}  // namespace portfwd
