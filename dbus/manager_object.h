// /org/portfwd1 on the bus: requests in, Control's answers out, events as signals. Owned by the
// exports. Every method is one call of Control; the only state here are the two counts.
#pragma once

#include <manager_adaptor.h>

#include "api/control.h"
#include "dbus/lifelines.h"
#include "dbus/sdbus_compat.h"

namespace portfwd {

class ManagerObject final : public sdbus::AdaptorInterfaces<org::portfwd1::Manager_adaptor,
                                                            sdbus::ObjectManager_adaptor> {
 public:
  ManagerObject(sdbus::IConnection& connection, Control& control, Lifelines& lifelines);
  ManagerObject(const ManagerObject&) = delete;
  ManagerObject& operator=(const ManagerObject&) = delete;
  ~ManagerObject() { unregisterAdaptor(); }

  void emit(const Event& event);
  /// PropertiesChanged if a count differs from the last.
  void set_counts(std::size_t containers, std::size_t forwards);

 private:
  using EventRow = sdbus::Struct<std::uint64_t, std::uint64_t, std::string, sdbus::ObjectPath,
                                 Properties>;  ///< ttsoa{sv}

  sdbus::ObjectPath Forward(const std::string& container, const std::string& target,
                            const Properties& options) override;
  void Unforward(const sdbus::ObjectPath& forward) override;
  sdbus::ObjectPath AttachPid(const std::uint32_t& pid, const std::string& name) override;
  sdbus::ObjectPath AttachNetns(const sdbus::UnixFd& netns, const std::string& name) override;
  void Detach(const sdbus::ObjectPath& container) override;
  std::vector<EventRow> GetEvents(const std::uint64_t& after_seq) override;
  Properties Explain(const std::string& container, const std::string& target) override;
  Properties GetStatus() override;
  void Reload() override;

  std::string Version() override;
  std::string InstanceId() override;
  std::uint32_t Containers() override { return containers_; }
  std::uint32_t Forwards() override { return forwards_; }
  std::uint64_t PollIntervalUSec() override;

  Control& control_;
  Lifelines& lifelines_;
  std::uint32_t containers_ = 0;
  std::uint32_t forwards_ = 0;
};

}  // namespace portfwd
