// BusService on sdbus-c++: the connection, the objects on it, and when they tell what. Owned by
// main behind BusService.
//
// Objects come at once and go at once, as their signals do; only changes are put off, so that
// PropertiesChanged goes out once per turn of the loop however often a forward changed in it. An
// object that goes is freed after the message in hand, since the handler that runs may be its own.
//
// Who may call: on a session bus the bus itself lets only processes of its own user (and root)
// connect, so every caller is somebody who could as well ptrace the daemon.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dbus/bus_service.h"
#include "dbus/bus_source.h"
#include "dbus/manager_object.h"
#include "dbus/objects.h"

namespace portfwd {

class BusExports final : public BusService, private BusWork {
 public:
  using Lost = std::move_only_function<void(const std::string& why)>;

  /// Throws sdbus::Error.
  BusExports(EventLoop& loop, Control& control, std::unique_ptr<sdbus::IConnection> connection,
             Lost lost);
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

  void after_message() override;
  void before_bus_wait() override;
  void on_bus_lost(const std::string& why) override;

  [[nodiscard]] bool live() const { return manager_ && !source_.lost(); }
  void export_everything();

  Control& control_;
  Lost lost_;
  std::unique_ptr<sdbus::IConnection> connection_;  // outlives everything below
  BusSource source_;
  Lifelines lifelines_;
  std::optional<ManagerObject> manager_;  ///< there from publish() on
  std::size_t share_ = 1;                 ///< of each container: one of so many parts
  std::map<std::string, std::unique_ptr<ForwardObject>> forwards_;
  std::map<std::string, std::unique_ptr<ContainerObject>> containers_;
  std::set<std::string> changed_forwards_;
  std::set<std::string> changed_containers_;
  std::vector<std::unique_ptr<ForwardObject>> gone_forwards_;
  std::vector<std::unique_ptr<ContainerObject>> gone_containers_;
};

}  // namespace portfwd
