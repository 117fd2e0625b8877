#include "dbus/objects.h"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <cstring>

#include "dbus/fields.h"

namespace portfwd {

// --- paths ---------------------------------------------------------------------------------------

namespace {

struct FreeCString {
  void operator()(char* text) const { std::free(text); }
};
using CString = std::unique_ptr<char, FreeCString>;

std::string encoded(const char* prefix, std::string_view id) {
  char* path = nullptr;
  [[maybe_unused]] const int r = ::sd_bus_path_encode(prefix, std::string(id).c_str(), &path);
  assert(r >= 0);  // the prefix is a valid path
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
  if (encoded(prefix, found) != path)
    return {};  // sd-bus decodes the prefix itself and a/b as well
  return found;
}

// --- objects -------------------------------------------------------------------------------------

const std::vector<sd_bus_vtable>& ContainerObject::vtable() {
  static const auto made = [] {
    std::vector<sd_bus_vtable> rows{SD_BUS_VTABLE_START(0)};
    add_properties<kContainerProperties, ContainerObject>(rows);
    rows.push_back(SD_BUS_VTABLE_END);
    return rows;
  }();
  return made;
}

void ContainerObject::update(const ContainerInfo& info) {
  collect_changes(kContainerProperties, ContainerView{info_}, ContainerView{info}, changed_);
  info_ = info;
}

const std::vector<sd_bus_vtable>& ForwardObject::vtable() {
  static const auto made = [] {
    std::vector<sd_bus_vtable> rows{
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Close", "", "", &ForwardObject::close, SD_BUS_VTABLE_UNPRIVILEGED)};
    add_properties<kForwardProperties, ForwardObject>(rows);
    rows.push_back(SD_BUS_VTABLE_END);
    return rows;
  }();
  return made;
}

/// unforward() destroys the object, which must not be used after it.
int ForwardObject::close(sd_bus_message* call, void* object, sd_bus_error* error) noexcept {
  auto& self = *static_cast<ForwardObject*>(object);
  Control& control = self.control_;
  const std::string id = self.info_.id;
  if (const auto done = control.unforward(id); !done) return reply_refusal(done.error(), error);
  return reply_to(call, [](MessageWriter&) {});
}

void ForwardObject::update(const ForwardInfo& info) {
  if (!announced_) announced_ = std::make_unique<const ForwardInfo>(std::move(info_));
  info_ = info;
}

std::set<std::string> ForwardObject::take_changes() {
  std::set<std::string> changed;
  const auto before = std::exchange(announced_, nullptr);
  if (before) collect_changes(kForwardProperties, *before, info_, changed);
  return changed;
}

const ForwardInfo& ForwardObject::view(Change change) {
  if (change == Change::Silent) {
    for (const ForwardCounters& own : control_.counters(info_.id)) info_.counters = own.counters;
  }
  return info_;
}

// --- trees ---------------------------------------------------------------------------------------

void emit_changed(sd_bus* bus, const char* path, const char* interface,
                  const std::set<std::string>& names) {
  if (names.empty()) return;
  std::vector<char*> list;
  for (const std::string& name : names) list.push_back(const_cast<char*>(name.c_str()));
  list.push_back(nullptr);
  log_unsent("PropertiesChanged",
             ::sd_bus_emit_properties_changed_strv(bus, path, interface, list.data()));
}

template <class Object>
Result<void> ObjectTree<Object>::publish() {
  assert(!vtable_);
  sd_bus_slot* made = nullptr;
  int r = ::sd_bus_add_fallback_vtable(bus_, &made, Object::kPrefix, Object::kInterface,
                                       Object::vtable().data(), &find, this);
  vtable_.reset(made);
  if (r < 0) return fail("sd_bus_add_fallback_vtable", -r);
  made = nullptr;
  r = ::sd_bus_add_node_enumerator(bus_, &made, Object::kPrefix, &list, this);
  enumerator_.reset(made);
  return check("sd_bus_add_node_enumerator", r);
}

template <class Object>
void ObjectTree<Object>::flush() {
  for (const std::string& path : std::exchange(changed_, {})) {
    if (const auto at = objects_.find(path); at != objects_.end()) {
      emit_changed(bus_, path.c_str(), Object::kInterface, at->second.take_changes());
    }
  }
}

template <class Object>
int ObjectTree<Object>::find(sd_bus*, const char* path, const char*, void* tree, void** found,
                             sd_bus_error*) noexcept {
  auto& objects = static_cast<ObjectTree*>(tree)->objects_;
  const auto at = objects.find(std::string_view(path));
  if (at == objects.end()) return 0;
  *found = &at->second;
  return 1;
}

/// Allocates the list by malloc(3), since sd-bus frees it.
template <class Object>
int ObjectTree<Object>::list(sd_bus*, const char*, void* tree, char*** paths,
                             sd_bus_error*) noexcept {
  const auto& objects = static_cast<ObjectTree*>(tree)->objects_;
  auto** const made = static_cast<char**>(std::calloc(objects.size() + 1, sizeof(char*)));
  if (made == nullptr) return -ENOMEM;
  std::ranges::transform(objects, made, [](const auto& at) { return ::strdup(at.first.c_str()); });
  *paths = made;
  return 0;
}

template class ObjectTree<ContainerObject>;
template class ObjectTree<ForwardObject>;

}  // namespace portfwd
