
#include "dbus/objects.h"

#include <systemd/sd-bus.h>

#include <cassert>
#include <cstdlib>
#include <memory>

#include "dbus/bus_errors.h"
#include "dbus/fields.h"

namespace portfwd {

namespace {

struct FreeCString {
  void operator()(char* text) const { std::free(text); }
};
using CString = std::unique_ptr<char, FreeCString>;

std::string encoded(const char* prefix, std::string_view id) {
  char* path = nullptr;
  [[maybe_unused]] const int r = ::sd_bus_path_encode(prefix, std::string(id).c_str(), &path);
  assert(r >= 0);  // the prefix is ours
  return CString(path).get();
}

}  // namespace

std::string forward_path(std::string_view id) {
  return encoded(kForwardPrefix, id);
}

std::string container_path(std::string_view id) {
  return id.empty() ? kNoPath : encoded(kContainerPrefix, id);
}

std::optional<std::string> id_of_path(const char* prefix, std::string_view path) {
  char* id = nullptr;
  if (::sd_bus_path_decode(std::string(path).c_str(), prefix, &id) <= 0) return {};
  std::string found = CString(id).get();
  if (encoded(prefix, found) != path) return {};  // it takes the prefix itself and a/b as well
  return found;
}

namespace {

constexpr const char* kContainerInterface = "org.portfwd1.Container";

void announce(sdbus::IObject& object, const char* interface, std::set<std::string>& changed) {
  const std::vector<std::string> names(changed.begin(), changed.end());
  changed.clear();
  if (!names.empty()) compat::emit_changed(object, interface, names);
}

}  // namespace

ContainerObject::ContainerObject(sdbus::IConnection& connection, const ContainerInfo& info,
                                 const std::size_t& share)
    : AdaptorInterfaces(connection, sdbus::ObjectPath(container_path(info.id))),
      info_(info),
      share_(share) {
  {
    compat::Vtable vtable(getObject(), kContainerInterface);
    register_properties(vtable, kContainerProperties, [this](Change) {
      assert(share_ > 0);
      return ContainerView{info_, share_};
    });
  }
  registerAdaptor();
}

void ContainerObject::update(const ContainerInfo& info) {
  note_changes(kContainerProperties, ContainerView{info_}, ContainerView{info}, changed_);
  info_ = info;
}

void ContainerObject::flush() {
  announce(getObject(), kContainerInterface, changed_);
}

namespace {

constexpr const char* kForwardInterface = "org.portfwd1.Forward";

}  // namespace

ForwardObject::ForwardObject(sdbus::IConnection& connection, Control& control,
                             const ForwardInfo& info)
    : AdaptorInterfaces(connection, sdbus::ObjectPath(forward_path(info.id))),
      control_(control),
      info_(info) {
  {
    compat::Vtable vtable(getObject(), kForwardInterface);
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
  for (const ForwardCounters& own : control_.counters(info_.id)) info_.counters = own.counters;
}

void ForwardObject::update(const ForwardInfo& info) {
  if (!announced_) announced_ = std::make_unique<const ForwardInfo>(std::move(info_));
  info_ = info;
}

void ForwardObject::flush() {
  const auto before = std::exchange(announced_, nullptr);
  if (!before) return;
  std::set<std::string> changed;
  note_changes(kForwardProperties, *before, info_, changed);
  announce(getObject(), kForwardInterface, changed);
}

}  // namespace portfwd
