#include "dbus/forward_object.h"

#include "dbus/bus_errors.h"
#include "dbus/bus_text.h"
#include "dbus/object_paths.h"
#include "dbus/properties.h"

namespace portfwd {

ForwardObject::ForwardObject(sdbus::IConnection& connection, Control& control,
                             const ForwardInfo& info)
    : AdaptorInterfaces(connection, sdbus::ObjectPath(forward_path(info.id))),
      control_(control),
      info_(info),
      told_(info) {
  registerAdaptor();
}

void ForwardObject::flush() {
  const auto names = changed(told_, info_);
  told_ = info_;
  if (!names.empty()) compat::emit_changed(getObject(), Forward_adaptor::INTERFACE_NAME, names);
}

void ForwardObject::Close() {
  guarded([&] { value_or_throw(control_.unforward(info_.id)); });
}

Counters ForwardObject::counters() const {
  const auto now = control_.find_forward(info_.id);
  return now ? now->counters : info_.counters;
}

std::string ForwardObject::Id() {
  return bus_text(info_.id);
}
sdbus::ObjectPath ForwardObject::Container() {
  return sdbus::ObjectPath(container_path(info_.container_id));
}
std::string ForwardObject::ContainerId() {
  return bus_text(info_.container_id);
}
std::string ForwardObject::ContainerName() {
  return bus_text(info_.container_name);
}
std::string ForwardObject::ContainerEngine() {
  return bus_text(info_.container_engine);
}
std::string ForwardObject::Protocol() {
  return std::string(name_of(info_.protocol));
}
std::string ForwardObject::Direction() {
  return std::string(name_of(info_.direction));
}
std::string ForwardObject::Target() {
  return bus_text(info_.target);
}
std::string ForwardObject::ContainerAddress() {
  return bus_text(info_.container_address);
}
std::uint16_t ForwardObject::ContainerPort() {
  return info_.container_port;
}
std::string ForwardObject::HostAddress() {
  return info_.host_addresses.empty() ? "" : bus_text(info_.host_addresses.front());
}
std::vector<std::string> ForwardObject::HostAddresses() {
  return bus_texts(info_.host_addresses);
}
std::uint16_t ForwardObject::HostPort() {
  return info_.host_port;
}
std::string ForwardObject::Origin() {
  return std::string(name_of(info_.origin));
}
std::string ForwardObject::State() {
  return std::string(name_of(info_.state));
}
std::string ForwardObject::Reason() {
  return bus_text(info_.reason);
}
std::string ForwardObject::Label() {
  return bus_text(info_.label);
}
std::string ForwardObject::Process() {
  return bus_text(info_.process);
}
std::string ForwardObject::Url() {
  return bus_text(info_.url);
}
std::string ForwardObject::OnAutoForward() {
  return bus_text(info_.on_auto_forward);
}
std::uint64_t ForwardObject::Since() {
  return microseconds(info_.since);
}
std::uint64_t ForwardObject::ConnectionsActive() {
  return counters().active;
}
std::uint64_t ForwardObject::ConnectionsTotal() {
  return counters().total;
}
std::uint64_t ForwardObject::ConnectionsFailed() {
  return counters().failed;
}
std::uint64_t ForwardObject::ConnectionsRefused() {
  return counters().refused;
}
std::uint64_t ForwardObject::BytesIn() {
  return counters().bytes_in;
}
std::uint64_t ForwardObject::BytesOut() {
  return counters().bytes_out;
}

}  // namespace portfwd
