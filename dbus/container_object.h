// One container on the bus. Owned by the exports; mirrors the last state that was notified.
#pragma once

#include <cstddef>
#include <set>
#include <string>

#include "dbus/sdbus_compat.h"
#include "forward/model.h"

namespace portfwd {

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
  /// PropertiesChanged for what differs from what was announced last.
  void flush();

 private:
  ContainerInfo info_;
  std::set<std::string> changed_;  ///< properties, since the last announcement
  const std::size_t& share_;
};

}  // namespace portfwd
