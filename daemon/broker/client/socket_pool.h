// Sockets of one network namespace and protocol, made ahead of time, so that a new connection needs
// no round trip to the broker. Owned by the NetnsSockets, and destroyed with it: a socket pins its
// network namespace. It knows nothing of addresses; the dialer connects the sockets.
//
// The pool of a family is filled by prepare(), and refilled when it is half empty. A taker that
// finds it empty doubles the batch, up to a limit; a quiet period resets it. While descriptors are
// short no socket is made ahead: only waiting takers are served, and the numbers of the descriptors
// that they get show when the shortage is over.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "broker/client/broker_client.h"
#include "event/event_loop.h"
#include "net/address.h"

namespace portfwd {

/// Receiver of a socket of a SocketSource.
class SocketWaiter {
 public:
  /// Called at most once for an await(), never from within it. It may await() again, and must not
  /// destroy the source.
  /// @param socket unconnected, non-blocking, tuned; or why there is none
  virtual void on_socket(Result<UniqueFd> socket) = 0;

 protected:
  ~SocketWaiter() = default;
};

// Source of unconnected sockets for a dialer, one for each connection: made ahead of time in a
// container's network namespace, or on the host. They are non-blocking, and TCP sockets are tuned
// as RelayContext::tune() does. It knows nothing of addresses.
class SocketSource {
 public:
  /// @return invalid when none is ready: call await() then
  [[nodiscard]] virtual UniqueFd acquire(Family family) = 0;
  /// Waits for a socket. Takers are served in order.
  /// @param taker borrowed until called or withdrawn
  virtual void await(Family family, SocketWaiter& waiter) = 0;
  /// Cancels await(). Does nothing for a taker that does not wait.
  virtual void withdraw(SocketWaiter& waiter) noexcept = 0;

 protected:
  ~SocketSource() = default;
};

class SocketPool final : public SocketSource {
 public:
  static constexpr std::uint32_t kFirstBatch = 8;
  static constexpr std::uint32_t kLargestBatch = 64;
  static constexpr Duration kQuiet = std::chrono::seconds(10);
  static constexpr Duration kLowOnFdsPause = std::chrono::milliseconds(50);

  /// @param netns borrowed, outlives the pool
  SocketPool(EventLoop& loop, std::shared_ptr<BrokerClient> broker, int netns,
             Protocol protocol = Protocol::Tcp);
  SocketPool(const SocketPool&) = delete;
  SocketPool& operator=(const SocketPool&) = delete;

  /// Makes sockets ready for connections that may come. Does nothing while more than half of a
  /// batch is ready.
  void prepare(Family family);

  [[nodiscard]] UniqueFd acquire(Family family) override;
  /// While this process lacks descriptors takers wait: a few sockets are requested every
  /// kLowOnFdsPause. EAFNOSUPPORT: the container does not have the family. The errors of a broker
  /// as in BrokerClient, once the next broker has failed as well.
  void await(Family family, SocketWaiter& waiter) override;
  void withdraw(SocketWaiter& waiter) noexcept override;

  [[nodiscard]] std::size_t stock(Family family) const { return pool_of(family).stock.size(); }
  [[nodiscard]] bool unsupported(Family family) const { return pool_of(family).unsupported; }

 private:
  struct FamilyPool {
    std::vector<UniqueFd> stock;
    std::list<SocketWaiter*> waiters;  ///< mostly empty: an empty deque takes 576 bytes
    std::uint32_t batch = kFirstBatch;
    TimePoint requested_at{};
    bool requested = false;
    bool unsupported = false;
    bool low_on_fds = false;     ///< after EMFILE, until all takers are served
    bool failed_before = false;  ///< the last reply was a failure of the broker
    BrokerCall call;
  };
  [[nodiscard]] FamilyPool& pool_of(Family f) { return pools_[static_cast<std::size_t>(f)]; }
  [[nodiscard]] const FamilyPool& pool_of(Family f) const {
    return pools_[static_cast<std::size_t>(f)];
  }
  void refill(Family family);
  void on_sockets(Family family, Result<BrokerClient::Sockets> sockets);
  void request_again();
  static void fail_waiters(FamilyPool& pool, Error error);

  EventLoop& loop_;
  std::shared_ptr<BrokerClient> broker_;
  int netns_;
  Protocol protocol_;
  DescriptorLimits limits_ = DescriptorLimits::read();
  bool fd_shortage_ = false;  ///< descriptors were short when sockets last arrived
  std::array<FamilyPool, 2> pools_;
  Timer fail_unsupported_;
  Timer request_again_;  ///< while a family is low_on_fds
};

}  // namespace portfwd
