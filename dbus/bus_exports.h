// BusService on sd-bus: the connection, the objects on it, and when they tell what. Owned by main
// behind BusService.
//
// Who may call: on a session bus the bus itself lets only processes of its own user (and root)
// connect, so every caller is somebody who could as well ptrace the daemon.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>

#include "dbus/bus_service.h"
#include "dbus/bus_source.h"
#include "dbus/manager_object.h"
#include "dbus/objects.h"

namespace portfwd {

class BusExports final : public BusService {
 public:
  using Lost = std::move_only_function<void(const std::string& why)>;

  BusExports(EventLoop& loop, Control& control, BusPtr bus, Lost lost);
  ~BusExports() override;

  Answer<void> publish() override;

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

}  // namespace portfwd
