// What differs between sdbus-c++ 1.2 (Debian 12) and 2.1 (Debian 13), in one place. Everything else
// of client/ is written against these names. It knows nothing of portfwd.
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

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
#else
using ServiceName = std::string;
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

}  // namespace compat
}  // namespace portfwd
