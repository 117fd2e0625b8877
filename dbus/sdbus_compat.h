// What differs between sdbus-c++ 1.2 (Debian 12) and 2.1 (Debian 13), in one place. Everything else
// of dbus/ and client/ is written against these names. It knows nothing of portfwd.
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#if __has_include(<sdbus-c++/VTableItems.h>)  // came with 2.0
#define PORTFWD_SDBUS_2 1
#else
#define PORTFWD_SDBUS_2 0
#endif

namespace portfwd {

using Properties = std::map<std::string, sdbus::Variant>;  ///< a{sv}

namespace compat {

#if PORTFWD_SDBUS_2
using ServiceName = sdbus::ServiceName;
using ErrorName = sdbus::Error::Name;
#else
using ServiceName = std::string;
using ErrorName = std::string;
#endif

/// What a foreign loop has to wait for on behalf of a connection.
struct PollNeeds {
  int fd;
  std::uint32_t events;                              ///< poll(2) bits, which are epoll's
  std::optional<std::chrono::microseconds> timeout;  ///< from now; nothing: for ever
};

/// 2.x adds an eventfd by which one thread wakes another; with one thread that drains before each
/// wait there is nobody to wake.
[[nodiscard]] inline PollNeeds poll_needs(const sdbus::IConnection& connection) {
  const auto data = connection.getEventLoopPollData();
  PollNeeds needs{data.fd, static_cast<std::uint32_t>(data.events), {}};
#if PORTFWD_SDBUS_2
  if (const auto left = data.getRelativeTimeout(); left != std::chrono::microseconds::max()) {
    needs.timeout = left;
  }
#else
  needs.timeout = data.getRelativeTimeout();
#endif
  return needs;
}

/// Handles at most one queued message. @return false when there was nothing left to do.
inline bool process_one(sdbus::IConnection& connection) {
#if PORTFWD_SDBUS_2
  return connection.processPendingEvent();
#else
  return connection.processPendingRequest();
#endif
}

/// @param handler is destroyed with the slot, so it must not drop the slot itself; must not throw
[[nodiscard]] inline sdbus::Slot add_match(sdbus::IConnection& connection, const std::string& rule,
                                           std::function<void(sdbus::Message&)> handler) {
#if PORTFWD_SDBUS_2
  return connection.addMatch(
      rule, [h = std::move(handler)](sdbus::Message message) { h(message); }, sdbus::return_slot);
#else
  return connection.addMatch(rule, std::move(handler));
#endif
}

/// Unique name of the caller of the method that runs now.
[[nodiscard]] inline std::string current_sender(const sdbus::IObject& object) {
#if PORTFWD_SDBUS_2
  return object.getCurrentlyProcessedMessage().getSender();
#else
  return object.getCurrentlyProcessedMessage()->getSender();
#endif
}

inline void emit_changed(sdbus::IObject& object, const char* interface,
                         const std::vector<std::string>& names) {
#if PORTFWD_SDBUS_2
  object.emitPropertiesChangedSignal(interface, {names.begin(), names.end()});
#else
  object.emitPropertiesChangedSignal(interface, names);
#endif
}

/// How a client learns that a property has another value.
enum class Change : std::uint8_t {
  Never,      ///< it is constant
  Announced,  ///< PropertiesChanged
  Silent,     ///< it has to read it
};

/// The methods and properties of one interface of an object, registered one by one.
class Vtable {
 public:
  /// @param object borrowed; interface must outlive it
  Vtable(sdbus::IObject& object, const char* interface) : object_(object), interface_(interface) {}
  Vtable(const Vtable&) = delete;
  Vtable& operator=(const Vtable&) = delete;
  ~Vtable() {
#if PORTFWD_SDBUS_2
    object_.addVTable(sdbus::InterfaceName(interface_), std::move(items_));
#endif
  }

  template <class Getter>
  void property(const char* name, Change change, Getter getter) {
#if PORTFWD_SDBUS_2
    auto item = sdbus::registerProperty(name).withGetter(std::move(getter));
    if (const auto flag = flag_of(change)) item.withUpdateBehavior(*flag);
    items_.emplace_back(std::move(item));
#else
    const std::string borrowed(name);  // by the item, whose destructor registers it
    auto item = object_.registerProperty(borrowed);
    item.onInterface(interface_).withGetter(std::move(getter));
    if (const auto flag = flag_of(change)) item.withUpdateBehavior(*flag);
#endif
  }
  template <class Function>
  void method(const char* name, Function function) {
#if PORTFWD_SDBUS_2
    items_.emplace_back(sdbus::registerMethod(name).implementedAs(std::move(function)));
#else
    const std::string borrowed(name);
    object_.registerMethod(borrowed).onInterface(interface_).implementedAs(std::move(function));
#endif
  }

 private:
  static std::optional<sdbus::Flags::PropertyUpdateBehaviorFlags> flag_of(Change change) {
    if (change == Change::Never) return sdbus::Flags::CONST_PROPERTY_VALUE;
    if (change == Change::Silent) return sdbus::Flags::EMITS_NO_SIGNAL;
    return std::nullopt;
  }

  sdbus::IObject& object_;
  const char* interface_;
#if PORTFWD_SDBUS_2
  std::vector<sdbus::VTableItem> items_;
#endif
};

[[nodiscard]] inline sdbus::Error make_error(std::string_view name, const std::string& text) {
  return sdbus::Error(ErrorName(std::string(name)), text);
}

}  // namespace compat
}  // namespace portfwd
