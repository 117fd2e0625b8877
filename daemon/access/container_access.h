// How one container is reached: its listeners on one side, a way to dial them on the other, and
// nothing above knows by which means. Owned by the AccessSet; it lives between on_access_added and
// on_access_removed, and its sockets pin the namespace no longer than that.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "access/inside_port.h"
#include "access/watcher.h"
#include "discover/container.h"
#include "relay/dialer.h"

namespace portfwd {

enum class ContainerState : std::uint8_t { Watched, Inaccessible, Ignored };
enum class AccessKind : std::uint8_t { None, Broker, Helper, Bridge };

[[nodiscard]] std::string_view name_of(ContainerState v);  ///< "watched", "inaccessible", "ignored"
[[nodiscard]] std::string_view name_of(AccessKind v);      ///< "none", "broker", "helper", "bridge"

[[nodiscard]] std::string_view how(AccessKind v);  ///< a sentence for `explain`

class ContainerAccess {
 public:
  virtual ~ContainerAccess() = default;
  [[nodiscard]] virtual const Container& container() const = 0;
  [[nodiscard]] virtual ContainerState state() const = 0;
  [[nodiscard]] virtual AccessKind kind() const = 0;
  /// Why it is inaccessible, or what of it is not reached, remedy included; else "".
  [[nodiscard]] virtual const std::string& reason() const = 0;
  /// Ordered, process names filled in as far as they can be known.
  [[nodiscard]] virtual const std::vector<Listener>& listeners() const = 0;
  [[nodiscard]] virtual bool ever_listened() const = 0;
  [[nodiscard]] virtual Dialer& dialer(Protocol protocol) = 0;
  /// A client waits: look soon.
  virtual void expedite() = 0;
  /// The same, in full and whatever it costs: a client was refused, or what is taken to be gone may
  /// be back.
  virtual void poll_now() { expedite(); }
  /// Asks for a port of the container's loopback for ourselves. @param handler borrowed until
  /// called, or until the result is destroyed
  [[nodiscard]] virtual TakenPort listen_inside(Port, InsidePortHandler&) {
    return std::unexpected("no socket can be made in there");
  }
};

class AccessObserver {
 public:
  virtual void on_access_added(ContainerAccess& reach) = 0;
  /// The container's name or facts changed, or it can no longer (or again) be entered.
  virtual void on_access_changed(ContainerAccess& reach) = 0;
  virtual void on_listeners(ContainerAccess& reach) = 0;
  /// The last call for it; dials through it must be over at the return.
  virtual void on_access_removed(ContainerAccess& reach, RemovalReason reason) = 0;

 protected:
  ~AccessObserver() = default;
};

}  // namespace portfwd
