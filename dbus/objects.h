// The D-Bus objects of containers and forwards, and the paths of them. Owned by the BusExports.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "api/control.h"
#include "dbus/sdbus_compat.h"
#include "forward/model.h"

namespace portfwd {

// Ids as object paths and back, escaped as sd_bus_path_encode(3) does: "a1-b" is /…/a1_2db.
// It knows nothing of sdbus-c++.

inline constexpr const char* kBusName = "org.portfwd1";
inline constexpr const char* kManagerPath = "/org/portfwd1";
inline constexpr const char* kForwardPrefix = "/org/portfwd1/forward";
inline constexpr const char* kContainerPrefix = "/org/portfwd1/container";
inline constexpr const char* kNoPath = "/";  ///< D-Bus has no empty object path

[[nodiscard]] std::string forward_path(std::string_view id);
/// @return kNoPath for an empty id.
[[nodiscard]] std::string container_path(std::string_view id);

/// @return the id in a path of the form `prefix`/ID, nothing for any other path.
[[nodiscard]] std::optional<std::string> id_of_path(const char* prefix, std::string_view path);

// One container on the bus. Owned by the exports; mirrors the last state that was notified.
class ContainerObject final : public sdbus::AdaptorInterfaces<sdbus::ManagedObject_adaptor> {
 public:
  /// @param share borrowed: see ContainerView
  ContainerObject(sdbus::IConnection& connection, const ContainerInfo& info,
                  const std::size_t& share);
  ContainerObject(const ContainerObject&) = delete;
  ContainerObject& operator=(const ContainerObject&) = delete;
  ~ContainerObject() { unregisterAdaptor(); }

  /// Takes the new state; flush() announces it.
  void update(const ContainerInfo& info);
  /// PropertiesChanged for what changed since it was announced last.
  void flush();

 private:
  ContainerInfo info_;
  std::set<std::string> changed_;  ///< properties, since the last announcement
  const std::size_t& share_;
};

// One forward on the bus. Owned by the exports; mirrors the last state that the forward table
// notified and asks Control for the counters only when somebody reads them.
class ForwardObject final : public sdbus::AdaptorInterfaces<sdbus::ManagedObject_adaptor> {
 public:
  /// @param control borrowed
  ForwardObject(sdbus::IConnection& connection, Control& control, const ForwardInfo& info);
  ForwardObject(const ForwardObject&) = delete;
  ForwardObject& operator=(const ForwardObject&) = delete;
  ~ForwardObject() { unregisterAdaptor(); }

  /// Takes the new state; flush() announces it.
  void update(const ForwardInfo& info);
  /// PropertiesChanged for what differs from what was announced last.
  void flush();

 private:
  void refresh_counters();

  Control& control_;
  ForwardInfo info_;
  std::unique_ptr<const ForwardInfo> announced_;  ///< null while it is as info_ has it
};

}  // namespace portfwd
