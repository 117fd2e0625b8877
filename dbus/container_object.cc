#include "dbus/container_object.h"

#include "dbus/bus_text.h"
#include "dbus/object_paths.h"
#include "dbus/properties.h"

namespace portfwd {

ContainerObject::ContainerObject(sdbus::IConnection& connection, const ContainerInfo& info)
    : AdaptorInterfaces(connection, sdbus::ObjectPath(container_path(info.id))),
      info_(info),
      told_(info) {
  registerAdaptor();
}

void ContainerObject::flush() {
  const auto names = changed(told_, info_);
  told_ = info_;
  if (!names.empty()) compat::emit_changed(getObject(), Container_adaptor::INTERFACE_NAME, names);
}

std::string ContainerObject::Id() {
  return bus_text(info_.id);
}
std::string ContainerObject::Name() {
  return bus_text(info_.name);
}
std::string ContainerObject::Engine() {
  return bus_text(info_.engine);
}
std::uint32_t ContainerObject::Uid() {
  return info_.uid;
}
std::uint32_t ContainerObject::Pid() {
  return static_cast<std::uint32_t>(info_.pid);
}
std::uint64_t ContainerObject::Netns() {
  return info_.netns;
}
std::string ContainerObject::Image() {
  return bus_text(info_.image);
}
std::string ContainerObject::Pod() {
  return bus_text(info_.pod);
}
std::string ContainerObject::Project() {
  return bus_text(info_.project);
}
std::string ContainerObject::Service() {
  return bus_text(info_.service);
}
std::map<std::string, std::string> ContainerObject::Labels() {
  return bus_texts(info_.labels);
}
std::vector<Properties> ContainerObject::Published() {
  return published_dictionaries(info_.published);
}
std::string ContainerObject::State() {
  return std::string(name_of(info_.state));
}
std::string ContainerObject::Reach() {
  return std::string(name_of(info_.reach));
}
std::string ContainerObject::Reason() {
  return bus_text(info_.reason);
}
std::vector<Properties> ContainerObject::Listeners() {
  return listener_dictionaries(info_.listeners);
}
bool ContainerObject::EverListened() {
  return info_.ever_listened;
}

bool ContainerObject::Attached() {
  return info_.attached;
}

}  // namespace portfwd
