// A connection to the session bus with a proxy of the daemon's Manager object. Private to client/.
#pragma once

#include <manager_proxy.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "client/client.h"
#include "client/sdbus_compat.h"
#include "dbus/names.h"

namespace portfwd::client {

/// By object path, then by interface.
using ManagedObjects = std::map<sdbus::ObjectPath, std::map<std::string, Properties>>;

/// The generated proxy. It receives signals between registerProxy() and unregisterProxy().
class ManagerProxy final : public sdbus::ProxyInterfaces<org::portfwd1::Manager_proxy> {
 public:
  explicit ManagerProxy(sdbus::IConnection& bus)
      : ProxyInterfaces(bus, compat::ServiceName(kBusName), sdbus::ObjectPath(kManagerPath)) {}

  using ProxyObjectHolder::getProxy;

  std::function<void(const char* type, const std::string& path, const Properties& properties)>
      on_event = [](const char*, const std::string&, const Properties&) {};

 private:
  void onPortAdded(const sdbus::ObjectPath& path, const Properties& p) override {
    on_event("PortAdded", path, p);
  }
  void onPortRemoved(const sdbus::ObjectPath& path, const Properties& p) override {
    on_event("PortRemoved", path, p);
  }
  void onContainerAdded(const sdbus::ObjectPath& path, const Properties& p) override {
    on_event("ContainerAdded", path, p);
  }
  void onContainerRemoved(const sdbus::ObjectPath& path, const Properties& p) override {
    on_event("ContainerRemoved", path, p);
  }
};

class Connection {
 public:
  /// Throws Error.
  explicit Connection(Client::Timeout timeout);

  [[nodiscard]] sdbus::IConnection& bus() { return *bus_; }
  [[nodiscard]] ManagerProxy& manager() { return manager_; }

  // The next two throw sdbus::Error.
  [[nodiscard]] ManagedObjects managed_objects();
  /// @return none when there is no such object
  [[nodiscard]] std::optional<Properties> properties(const sdbus::ObjectPath& path,
                                                     const char* interface);

 private:
  std::unique_ptr<sdbus::IConnection> bus_;
  ManagerProxy manager_;
};

[[noreturn]] void throw_error(const sdbus::Error& error);

/// Calls `run` and converts sdbus::Error to Error.
template <class Exchange>
auto exchange(Exchange&& run) {
  try {
    return run();
  } catch (const sdbus::Error& e) {
    throw_error(e);
  }
}

}  // namespace portfwd::client
