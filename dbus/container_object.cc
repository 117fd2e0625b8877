#include "dbus/container_object.h"

#include <cassert>

#include "dbus/fields.h"

namespace portfwd {

namespace {

constexpr const char* kInterface = "org.portfwd1.Container";

}  // namespace

ContainerObject::ContainerObject(sdbus::IConnection& connection, const ContainerInfo& info,
                                 const std::size_t& share)
    : AdaptorInterfaces(connection, sdbus::ObjectPath(container_path(info.id))),
      info_(info),
      share_(share) {
  {
    compat::Vtable vtable(getObject(), kInterface);
    register_properties(vtable, kContainerProperties, [this](Change) {
      assert(share_ > 0);
      return ContainerView{info_, share_};
    });
  }
  registerAdaptor();
}

void ContainerObject::update(const ContainerInfo& info) {
  for (std::string& name :
       changed_properties(kContainerProperties, ContainerView{info_}, ContainerView{info})) {
    changed_.insert(std::move(name));
  }
  info_ = info;
}

void ContainerObject::flush() {
  const std::vector<std::string> names(changed_.begin(), changed_.end());
  changed_.clear();
  if (!names.empty()) compat::emit_changed(getObject(), kInterface, names);
}

}  // namespace portfwd
