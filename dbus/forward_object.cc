#include "dbus/forward_object.h"

#include "dbus/bus_errors.h"
#include "dbus/fields.h"

namespace portfwd {

namespace {

constexpr const char* kInterface = "org.portfwd1.Forward";

}  // namespace

ForwardObject::ForwardObject(sdbus::IConnection& connection, Control& control,
                             const ForwardInfo& info)
    : AdaptorInterfaces(connection, sdbus::ObjectPath(forward_path(info.id))),
      control_(control),
      info_(info),
      announced_(info) {
  {
    compat::Vtable vtable(getObject(), kInterface);
    vtable.method("Close",
                  [this] { guarded([this] { value_or_throw(control_.unforward(info_.id)); }); });
    register_properties(vtable, kForwardProperties, [this](Change change) -> const ForwardInfo& {
      if (change == Change::Silent) refresh_counters();
      return info_;
    });
  }
  registerAdaptor();
}

void ForwardObject::refresh_counters() {
  if (const auto counters = control_.forward_counters(info_.id)) info_.counters = *counters;
}

void ForwardObject::flush() {
  const auto names = changed_properties(kForwardProperties, announced_, info_);
  announced_ = info_;
  if (!names.empty()) compat::emit_changed(getObject(), kInterface, names);
}

}  // namespace portfwd
