// The D-Bus objects of containers and forwards, and their paths. An ObjectTree has all objects of
// one kind. sd-bus looks up the object of a path in it, so an object needs no registration and
// costs only the memory of its values. Owned by the bus service.
#pragma once

#include <systemd/sd-bus.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/control.h"
#include "dbus/message.h"
#include "dbus/names.h"
#include "forward/model.h"

namespace portfwd {

// Object paths of ids, escaped by sd_bus_path_encode(3): the path of "a1-b" is /…/a1_2db.
[[nodiscard]] std::string forward_path(std::string_view id);
/// @return kNoPath for an empty id.
[[nodiscard]] std::string container_path(std::string_view id);

/// @return the id in a path of the form `prefix`/ID; nothing for any other path
[[nodiscard]] std::optional<std::string> id_of_path(const char* prefix, std::string_view path);

/// How clients are notified of a new value of a property.
enum class Change : std::uint8_t {
  Never,      ///< not at all: it is constant
  Announced,  ///< by PropertiesChanged
  Silent,     ///< not at all: they must read it
};

/// A container and the size limits of its lists. The answer of GetManagedObjects is one message
/// with every property of every object. A bus that considers it too large drops it and disconnects
/// the sender. Therefore the lists of all containers together have a limit, of which each container
/// may use an equal part.
struct ContainerView {
  static constexpr std::size_t kAllLabels = 6UL << 20;  ///< in bytes, as the next two
  static constexpr std::size_t kAllListeners = 16UL << 20;
  static constexpr std::size_t kAllPublished = 2UL << 20;

  const ContainerInfo& info;
  std::size_t share = 1;  ///< number of containers among which the limits are divided
};

// One container on the bus: the last state that was notified.
class ContainerObject {
 public:
  static constexpr const char* kPrefix = kContainerPrefix;
  static constexpr const char* kInterface = kContainerInterface;
  static const std::vector<sd_bus_vtable>& vtable();

  /// @param share borrowed: see ContainerView
  ContainerObject(const std::size_t& share, const ContainerInfo& info)
      : share_(share), info_(info) {}

  void update(const ContainerInfo& info);
  /// Names of the properties that changed since the last call.
  [[nodiscard]] std::set<std::string> take_changes() { return std::exchange(changed_, {}); }
  [[nodiscard]] ContainerView view(Change) const { return {info_, share_}; }

 private:
  const std::size_t& share_;
  ContainerInfo info_;
  std::set<std::string> changed_;
};

// One forward on the bus: the last state that the forward table notified. The counters are
// requested from Control when a client reads them.
class ForwardObject {
 public:
  static constexpr const char* kPrefix = kForwardPrefix;
  static constexpr const char* kInterface = kForwardInterface;
  static const std::vector<sd_bus_vtable>& vtable();

  /// @param control borrowed
  ForwardObject(Control& control, const ForwardInfo& info) : control_(control), info_(info) {}

  void update(const ForwardInfo& info);
  /// Names of the properties that changed since the last call.
  [[nodiscard]] std::set<std::string> take_changes();
  [[nodiscard]] const ForwardInfo& view(Change change);

 private:
  static int close(sd_bus_message* call, void* object, sd_bus_error* error) noexcept;

  Control& control_;
  ForwardInfo info_;
  std::unique_ptr<const ForwardInfo> announced_;  ///< last announced state; null: the same as info_
};

// All objects of one kind. Additions and removals are signalled at once. Changes are signalled by
// flush(), so that an object sends one signal however often it changed.
template <class Object>
class ObjectTree {
 public:
  /// @param bus borrowed
  explicit ObjectTree(sd_bus* bus) : bus_(bus) {}
  ObjectTree(const ObjectTree&) = delete;
  ObjectTree& operator=(const ObjectTree&) = delete;

  /// Registers the tree with the bus. Must be called once.
  Result<void> publish();
  template <class Context, class Info>
  void add(const std::string& path, Context& context, const Info& info) {
    objects_.erase(path);
    objects_.try_emplace(path, context, info);
    log_unsent("InterfacesAdded", ::sd_bus_emit_object_added(bus_, path.c_str()));
  }
  /// Does nothing if there is no object at that path, as remove().
  template <class Info>
  void update(const std::string& path, const Info& info) {
    const auto at = objects_.find(path);
    if (at == objects_.end()) return;
    at->second.update(info);
    changed_.insert(path);
  }
  void remove(const std::string& path) {
    if (!objects_.contains(path)) return;
    log_unsent("InterfacesRemoved", ::sd_bus_emit_object_removed(bus_, path.c_str()));
    objects_.erase(path);
  }
  /// Emits PropertiesChanged for each object that changed.
  void flush();
  [[nodiscard]] std::size_t size() const { return objects_.size(); }

 private:
  static int find(sd_bus*, const char* path, const char*, void* tree, void** found,
                  sd_bus_error*) noexcept;
  static int list(sd_bus*, const char*, void* tree, char*** paths, sd_bus_error*) noexcept;

  sd_bus* bus_;
  std::map<std::string, Object, std::less<>> objects_;  ///< by path
  std::set<std::string> changed_;                       ///< paths
  SlotPtr vtable_;
  SlotPtr enumerator_;
};

extern template class ObjectTree<ContainerObject>;
extern template class ObjectTree<ForwardObject>;

/// Emits PropertiesChanged for one object, unless `names` is empty.
void emit_changed(sd_bus* bus, const char* path, const char* interface,
                  const std::set<std::string>& names);

}  // namespace portfwd
