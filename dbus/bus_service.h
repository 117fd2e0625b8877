// The daemon on the bus: the connection, the objects on it, and when they tell what. It mirrors
// what the core notifies. Owned by main, above the loop and below the core.
//
// Who may call: on a session bus the bus itself lets only processes of its own user (and root)
// connect, so every caller is somebody who could as well ptrace the daemon.
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
  /// Takes everything off the bus; waits for the bus's answer, one second at most.
  ~BusService();

  /// Makes an object of everything that Control has, then asks for the name. What the observer is
  /// told before that is ignored, as publish() finds it.
  Answer<void> publish();

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
  std::optional<ManagerObject> manager_;  ///< there from publish() on
  std::size_t share_ = 1;                 ///< of each container: one of so many parts
  ObjectTree<ForwardObject> forwards_;
  ObjectTree<ContainerObject> containers_;
};

/// Connects, and fails early when another daemon owns the name (AlreadyRunning). Borrows `loop` and
/// `control`.
/// @param lost called once, from the loop, when the bus has gone; the argument says why. It must
/// not destroy the service: stop the loop, or retire it.
/// @return the service; its destruction takes everything off the bus.
[[nodiscard]] Answer<std::unique_ptr<BusService>> connect_bus(
    EventLoop& loop, Control& control, BusKind kind,
    std::move_only_function<void(const std::string& why)> lost);

}  // namespace portfwd
