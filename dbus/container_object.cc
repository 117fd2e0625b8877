#include "dbus/container_object.h"

#include "dbus/bus_text.h"
#include "dbus/object_paths.h"
#include "dbus/properties.h"

namespace portfwd {

namespace {

constexpr std::size_t kAllLabels = 6UL << 20;
constexpr std::size_t kAllListeners = 16UL << 20;
constexpr std::size_t kAllPublished = 2UL << 20;

}  // namespace

ContainerObject::ContainerObject(sdbus::IConnection& connection, const ContainerInfo& info,
                                 const std::size_t& share)
    : AdaptorInterfaces(connection, sdbus::ObjectPath(container_path(info.id))),
      info_(info),
      share_(share) {
  registerAdaptor();
}

void ContainerObject::update(const ContainerInfo& info) {
  for (std::string& name : changed(info_, info)) changed_.insert(std::move(name));
  info_ = info;
}

void ContainerObject::flush() {
  const std::vector<std::string> names(changed_.begin(), changed_.end());
  changed_.clear();
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
  return some_labels(info_.labels, kAllLabels / share_);
}
std::vector<Properties> ContainerObject::Published() {
  return published_dictionaries(info_.published, kAllPublished / share_);
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
  return listener_dictionaries(info_.listeners, kAllListeners / share_);
}
std::uint32_t ContainerObject::ListenersTotal() {
  return static_cast<std::uint32_t>(info_.listeners.size());
}
bool ContainerObject::EverListened() {
  return info_.ever_listened;
}

bool ContainerObject::Attached() {
  return info_.attached;
}

}  // namespace portfwd
