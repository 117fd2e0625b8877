// Differences between sdbus-c++ 1.2 (Debian 12) and 2.1 (Debian 13), for the rest of client/.
// Independent of portfwd.
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#if __has_include(<sdbus-c++/VTableItems.h>)  // since 2.0
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

/// What an external event loop must wait for on behalf of a connection.
struct PollNeeds {
  int fd;
  std::uint32_t events;                              ///< poll(2) bits, which are epoll's
  std::optional<std::chrono::microseconds> timeout;  ///< from now; none: unlimited
};

/// The eventfd of 2.x, by which one thread wakes another, is ignored: a connection is used by one
/// thread, which processes all messages before it waits.
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

/// Processes at most one queued message. @return false when there was none
inline bool process_one(sdbus::IConnection& connection) {
#if PORTFWD_SDBUS_2
  return connection.processPendingEvent();
#else
  return connection.processPendingRequest();
#endif
}

/// @param handler must not throw, and must not destroy the slot, which owns it
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
