// Sockets of one container and protocol, made ahead, so that a new connection costs no round trip
// to the broker. Owned by whatever dials into the container, and dies with it: a held socket pins
// its network namespace. It knows nothing of addresses; who takes a socket connects it.
//
// A family's shelf is filled by prepare() and again whenever it is half empty. A taker that finds
// it empty doubles the batch, up to a bound; a quiet time takes it back. While descriptors are
// short nothing is made ahead: only who waits is served, and the number of what he gets tells when
// that is over.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
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

// Source of a dialer's unconnected sockets, one per connection: made ahead in a container's network
// namespace, or on the host. They are ready to be connected and relayed: non-blocking, and those of
// TCP tuned as RelayContext::tune() does it. It knows nothing of addresses.
class SocketTaker {
 public:
  /// @param socket unconnected, non-blocking, tuned; or why there is none. Called at most once for
  /// an await(), never from within it. It may await() again, and must not destroy the source.
  virtual void on_socket(Result<UniqueFd> socket) = 0;

 protected:
  ~SocketTaker() = default;
};

class SocketSource {
 public:
  /// @return invalid when there is none at hand: then await() one
  [[nodiscard]] virtual UniqueFd take(Family family) = 0;
  /// Takers are served in order. @param taker borrowed until called or withdrawn
  virtual void await(Family family, SocketTaker& taker) = 0;
  /// Harmless for one that does not wait.
  virtual void withdraw(SocketTaker& taker) noexcept = 0;

 protected:
  ~SocketSource() = default;
};

class SocketPool final : public SocketSource {
 public:
  static constexpr std::uint32_t kFirstBatch = 8;
  static constexpr std::uint32_t kLargestBatch = 64;
  static constexpr Duration kQuiet = std::chrono::seconds(10);
  static constexpr Duration kScarcePause = std::chrono::milliseconds(50);

  /// @param netns borrowed, outlives the pool
  SocketPool(EventLoop& loop, std::shared_ptr<BrokerClient> broker, int netns,
             Protocol protocol = Protocol::Tcp);
  SocketPool(const SocketPool&) = delete;
  SocketPool& operator=(const SocketPool&) = delete;

  /// A connection may come: have sockets ready. Costs nothing when there are.
  void prepare(Family family);

  [[nodiscard]] UniqueFd take(Family family) override;
  /// While this process lacks descriptors takers stay: a few sockets are asked for, now and then.
  /// EAFNOSUPPORT when the container has no such family; the broker's errors as in BrokerClient,
  /// once the next broker has failed too.
  void await(Family family, SocketTaker& taker) override;
  void withdraw(SocketTaker& taker) noexcept override;

  [[nodiscard]] std::size_t stock(Family family) const { return shelf(family).stock.size(); }
  [[nodiscard]] bool unsupported(Family family) const { return shelf(family).unsupported; }

 private:
  struct Shelf {
    std::vector<UniqueFd> stock;
    std::deque<SocketTaker*> takers;
    std::uint32_t batch = kFirstBatch;
    TimePoint asked_at{};
    bool asking = false;
    bool unsupported = false;
    bool scarce = false;         ///< none were left, until all takers are served
    bool failed_before = false;  ///< the broker, at the last answer
    BrokerCall call;
  };
  [[nodiscard]] Shelf& shelf(Family f) { return shelves_[static_cast<std::size_t>(f)]; }
  [[nodiscard]] const Shelf& shelf(Family f) const { return shelves_[static_cast<std::size_t>(f)]; }
  void refill(Family family);
  void arrived(Family family, Result<BrokerClient::Sockets> sockets);
  void ask_again();
  static void turn_away(Shelf& shelf, Error error);

  EventLoop& loop_;
  std::shared_ptr<BrokerClient> broker_;
  int netns_;
  Protocol protocol_;
  DescriptorLimits limits_ = DescriptorLimits::read();
  bool short_ = false;  ///< descriptors, when sockets last arrived
  std::array<Shelf, 2> shelves_;
  Timer turn_away_unsupported_;
  Timer ask_again_;  ///< where descriptors are scarce
};

}  // namespace portfwd
