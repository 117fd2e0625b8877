// One forward on the bus. Owned by the exports; mirrors the last state that the forward table told
// and asks Control for the counters only when somebody reads them.
#pragma once

#include <forward_adaptor.h>

#include "dbus/sdbus_compat.h"
#include "forward/control.h"

namespace portfwd {

class ForwardObject final : public sdbus::AdaptorInterfaces<org::portfwd1::Forward_adaptor,
                                                            sdbus::ManagedObject_adaptor> {
 public:
  ForwardObject(sdbus::IConnection& connection, Control& control, const ForwardInfo& info);
  ForwardObject(const ForwardObject&) = delete;
  ForwardObject& operator=(const ForwardObject&) = delete;
  ~ForwardObject() { unregisterAdaptor(); }

  /// Takes the new state; flush() tells the bus.
  void update(const ForwardInfo& info) { info_ = info; }
  /// PropertiesChanged for what differs from what the bus was told last.
  void flush();

 private:
  void Close() override;

  std::string Id() override;
  sdbus::ObjectPath Container() override;
  std::string ContainerId() override;
  std::string ContainerName() override;
  std::string ContainerEngine() override;
  std::string Protocol() override;
  std::string Direction() override;
  std::string Target() override;
  std::string ContainerAddress() override;
  std::uint16_t ContainerPort() override;
  std::string HostAddress() override;
  std::vector<std::string> HostAddresses() override;
  std::uint16_t HostPort() override;
  std::string Origin() override;
  std::string State() override;
  std::string Reason() override;
  std::string Label() override;
  std::string Process() override;
  std::string Url() override;
  std::string OnAutoForward() override;
  std::uint64_t Since() override;
  std::uint64_t ConnectionsActive() override;
  std::uint64_t ConnectionsTotal() override;
  std::uint64_t ConnectionsFailed() override;
  std::uint64_t ConnectionsRefused() override;
  std::uint64_t BytesIn() override;
  std::uint64_t BytesOut() override;

  [[nodiscard]] Counters counters() const;

  Control& control_;
  ForwardInfo info_;
  ForwardInfo told_;
};

}  // namespace portfwd
