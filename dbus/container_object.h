// One container on the bus. Owned by the exports; mirrors the last state that was told.
#pragma once

#include <container_adaptor.h>

#include "dbus/sdbus_compat.h"
#include "forward/model.h"

namespace portfwd {

class ContainerObject final : public sdbus::AdaptorInterfaces<org::portfwd1::Container_adaptor,
                                                              sdbus::ManagedObject_adaptor> {
 public:
  ContainerObject(sdbus::IConnection& connection, const ContainerInfo& info);
  ContainerObject(const ContainerObject&) = delete;
  ContainerObject& operator=(const ContainerObject&) = delete;
  ~ContainerObject() { unregisterAdaptor(); }

  /// Takes the new state; flush() tells the bus.
  void update(const ContainerInfo& info) { info_ = info; }
  /// PropertiesChanged for what differs from what the bus was told last.
  void flush();

 private:
  std::string Id() override;
  std::string Name() override;
  std::string Engine() override;
  std::uint32_t Uid() override;
  std::uint32_t Pid() override;
  std::uint64_t Netns() override;
  std::string Image() override;
  std::string Pod() override;
  std::string Project() override;
  std::string Service() override;
  std::map<std::string, std::string> Labels() override;
  std::vector<Properties> Published() override;
  std::string State() override;
  std::string Reach() override;
  std::string Reason() override;
  std::vector<Properties> Listeners() override;
  bool EverListened() override;
  bool Attached() override;

  ContainerInfo info_;
  ContainerInfo told_;
};

}  // namespace portfwd
