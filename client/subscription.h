// Signals of the daemon as a queue of values: events by number, and the objects as they come,
// change and go. Whoever reads the queue sees everything once and in order.
//
// Events: the subscription stands before the log is read, so an event of the meantime arrives twice
// and is delivered once; a number that is missing is fetched from the log before anything later is
// delivered. Objects: their present state is delivered first, then each change with the object as a
// whole. A change that was sent before that state was read may be delivered once more, never a
// state that does not end up right. Everything ends with DaemonLost.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <variant>

#include "client/client.h"

namespace portfwd::client {

/// An object that is new, or that changed; counters change without a notification.
template <class Object>
struct Updated {
  Object object;
};

template <class Object>
struct Removed {
  Object object;  ///< as it was last
};

/// The daemon has released its name, or the bus has closed the connection.
struct DaemonLost {};

using Notification = std::variant<Event, Updated<Forward>, Removed<Forward>, Updated<Container>,
                                  Removed<Container>, DaemonLost>;

class Subscription {
 public:
  struct Wanted {
    std::optional<std::uint64_t> events_after = {};  ///< events with a greater number
    bool objects = false;
  };

  /// Throws Error. @param client must outlive it and have no other subscription in its life
  Subscription(Client& client, Wanted wanted);
  ~Subscription();
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;

  /// Waits for the next notification; must not be called after DaemonLost.
  /// @param timeout of the wait; none: for ever
  /// @return none when the time is over
  [[nodiscard]] std::optional<Notification> next(Client::Timeout timeout = {});

 private:
  class Signals;
  std::unique_ptr<Signals> signals_;
};

}  // namespace portfwd::client
