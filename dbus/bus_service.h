// The D-Bus service of the daemon: the connection, the objects on it and their signals. It mirrors
// what the core notifies. Owned by main(), declared after the loop and the core.
//
// States: before publish() nothing is on the bus and notifications are ignored; published; lost,
// when the connection is closed and nothing more is sent.
//
// Authorization: a session bus accepts only connections of its own user and of root, so every
// caller could ptrace the daemon as well. There is no further check.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "api/control.h"
#include "base/error.h"
#include "dbus/bus_source.h"
#include "dbus/manager_object.h"
#include "dbus/objects.h"
#include "event/event_loop.h"

namespace portfwd {

enum class BusKind { Session, System };

class BusService final : public ControlObserver {
 public:
  using Lost = std::move_only_function<void(const std::string& why)>;

  BusService(EventLoop& loop, Control& control, BusPtr bus, Lost lost);
  BusService(const BusService&) = delete;
  BusService& operator=(const BusService&) = delete;
  /// Releases the name and closes the connection. Waits for the answer of the bus, at most one
  /// second.
  ~BusService();

  /// Exports an object for each forward and container of Control, then requests the name.
  /// Notifications that arrive earlier are ignored, since publish() reads the state itself.
  Answer<void> publish();
  [[nodiscard]] sd_bus* bus() const { return bus_.get(); }

 private:
  void on_forward_added(const ForwardInfo& forward) override;
  void on_forward_changed(const ForwardInfo& forward) override;
  void on_forward_removed(const ForwardInfo& forward) override;
  void on_container_added(const ContainerInfo& container) override;
  void on_container_changed(const ContainerInfo& container) override;
  void on_container_removed(const ContainerInfo& container) override;
  void on_event(const Event& event) override;

  void before_wait();
  [[nodiscard]] bool live() const { return manager_ && !source_.lost(); }
  [[nodiscard]] Result<void> export_everything();

  Control& control_;
  BusPtr bus_;  // outlives everything below
  BusSource source_;
  Lifelines lifelines_;
  std::optional<ManagerObject> manager_;  ///< set by publish()
  std::size_t share_ = 1;                 ///< see ContainerView::share
  ObjectTree<ForwardObject> forwards_;
  ObjectTree<ContainerObject> containers_;
};

/// Connects to the bus. Blocks for the bus's answers. Borrows `loop` and `control`.
/// @param lost called once, from the loop, when the connection is lost; the argument is the cause.
/// It must not destroy the service: stop the loop, or retire the service.
/// @return the service, on which publish() must be called; AlreadyRunning when another daemon owns
/// the name
[[nodiscard]] Answer<std::unique_ptr<BusService>> connect_bus(
    EventLoop& loop, Control& control, BusKind kind,
    std::move_only_function<void(const std::string& why)> lost);

}  // namespace portfwd
