// One container on the bus. Owned by the exports; mirrors the last state that was told.
//
// GetManagedObjects is one message with every property of every object, which a bus drops, and the
// sender with it, when it is too large. So the lists of all containers together have a limit, and
// each container tells its part of them: Labels 6 MiB, Listeners 16 MiB (100 000), Published 2 MiB.
#pragma once

#include <container_adaptor.h>

#include <cstddef>
#include <set>
#include <string>

#include "dbus/sdbus_compat.h"
#include "forward/model.h"

namespace portfwd {

class ContainerObject final : public sdbus::AdaptorInterfaces<org::portfwd1::Container_adaptor,
                                                              sdbus::ManagedObject_adaptor> {
 public:
  /// @param share borrowed: in how many parts what all containers may tell is divided
  ContainerObject(sdbus::IConnection& connection, const ContainerInfo& info,
                  const std::size_t& share);
  ContainerObject(const ContainerObject&) = delete;
  ContainerObject& operator=(const ContainerObject&) = delete;
  ~ContainerObject() { unregisterAdaptor(); }

  /// Takes the new state; flush() tells the bus.
  void update(const ContainerInfo& info);
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
  std::uint32_t ListenersTotal() override;
  bool EverListened() override;
  bool Attached() override;

  ContainerInfo info_;
  std::set<std::string> changed_;  ///< properties, since the bus was told last
  const std::size_t& share_;
};

}  // namespace portfwd
