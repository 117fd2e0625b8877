// Signals of the daemon as a queue of values: events, and objects that are added, change and are
// removed. Each is delivered once and in order. The last notification is DaemonLost.
//
// Events: the subscription is made before the log of events is read. An event in between arrives
// twice and is delivered once. A missing number is read from the log before any later event is
// delivered.
// Objects: the current state is delivered first, then each change with the whole object. A change
// that was sent before the state was read may be delivered again; the last delivered state of an
// object is always the current one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <variant>

#include "client/client.h"

namespace portfwd::client {

/// An object that was added or changed. Counters change without a notification.
template <class Object>
struct Updated {
  Object object;
};

template <class Object>
struct Removed {
  Object object;  ///< its last state
};

/// The daemon has released its name or the bus has closed the connection.
struct DaemonLost {};

using Notification = std::variant<Event, Updated<Forward>, Removed<Forward>, Updated<Container>,
                                  Removed<Container>, DaemonLost>;

class Subscription {
 public:
  struct Wanted {
    std::optional<std::uint64_t> events_after = {};  ///< events with a greater number
    bool objects = false;
  };

  /// Throws Error. @param client must outlive the subscription; it can have one in its lifetime
  Subscription(Client& client, Wanted wanted);
  ~Subscription();
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;

  /// Waits for the next notification. Must not be called after DaemonLost.
  /// @param timeout of the wait; none: unlimited
  /// @return none when the wait timed out
  [[nodiscard]] std::optional<Notification> next(Client::Timeout timeout = {});

 private:
  class Signals;
  std::unique_ptr<Signals> signals_;
};

}  // namespace portfwd::client
