// One forward on the bus. Owned by the exports; mirrors the last state that the forward table
// notified and asks Control for the counters only when somebody reads them.
#pragma once

#include "api/control.h"
#include "dbus/sdbus_compat.h"

namespace portfwd {

class ForwardObject final : public sdbus::AdaptorInterfaces<sdbus::ManagedObject_adaptor> {
 public:
  /// @param control borrowed
  ForwardObject(sdbus::IConnection& connection, Control& control, const ForwardInfo& info);
  ForwardObject(const ForwardObject&) = delete;
  ForwardObject& operator=(const ForwardObject&) = delete;
  ~ForwardObject() { unregisterAdaptor(); }

  /// Takes the new state; flush() announces it.
  void update(const ForwardInfo& info) { info_ = info; }
  /// PropertiesChanged for what differs from what was announced last.
  void flush();

 private:
  void refresh_counters();

  Control& control_;
  ForwardInfo info_;
  ForwardInfo announced_;
};

}  // namespace portfwd
