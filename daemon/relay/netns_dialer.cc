#include "relay/netns_dialer.h"

#include <sys/socket.h>

#include <vector>

#include "kernel/stream.h"

namespace portfwd {

namespace {

/// One attempt. Each candidate gets a socket of its own; the timer ends it at the deadline, or in
/// the next turn when all failed before the loop was reached.
class NetnsDial final : public Dial, private IoHandler, private SocketTaker {
 public:
  NetnsDial(RelayContext& context, SocketSource& sockets, std::span<const Address> candidates,
            TimePoint deadline, DialHandler& handler)
      : context_(context),
        sockets_(sockets),
        handler_(handler),
        candidates_(candidates.begin(), candidates.end()),
        timer_(context.loop(), [this] { fail_now(); }) {
    timer_.arm_at(deadline);
    next();
  }
  NetnsDial(const NetnsDial&) = delete;
  NetnsDial& operator=(const NetnsDial&) = delete;
  ~NetnsDial() override { stop_waiting(); }

 private:
  void next() {
    while (tried_ < candidates_.size()) {
      const Family family = candidates_[tried_].ip().address.family();
      UniqueFd socket = sockets_.take(family);
      if (!socket.valid()) {
        last_error_ = {ETIMEDOUT, "socket"};
        waiting_ = true;
        return sockets_.await(family, *this);
      }
      if (connect(std::move(socket))) return;
    }
    give_up();
  }

  void on_socket(Result<UniqueFd> socket) override {
    waiting_ = false;
    if (socket && connect(std::move(*socket))) return;
    if (!socket) last_error_ = socket.error(), ++tried_;  // the other family may still have some
    next();
  }

  /// @return whether the outcome will be told by epoll. On loopback, too, it is never known at
  /// once.
  bool connect(UniqueFd socket) {
    source_.reset();
    socket_ = std::move(socket);
    context_.tune(socket_.get());
    const Endpoint& candidate = candidates_[tried_++].ip();
    if (const int error = bind_to_interface(candidate.interface); error != 0) {
      last_error_ = {error, "bind to the interface"};
      return false;
    }
    const SockAddr address = to_sockaddr(candidate);
    if (::connect(socket_.get(), address.get(), address.length) != 0 && errno != EINPROGRESS) {
      last_error_ = {errno, "connect"};
      return false;
    }
    last_error_ = {ETIMEDOUT, "connect"};
    source_.emplace(context_.loop(), socket_.get(), static_cast<IoHandler&>(*this));
    if (auto armed = source_->watch(EPOLLOUT); !armed) {
      last_error_ = armed.error();
      return false;
    }
    return true;
  }

  /// A listener that is bound to an interface hears only what comes by it, which is so for a local
  /// client that is bound to it too. Connecting to 0.0.0.0 then leads to the interface's own
  /// address; of IPv6 there is no such thing. Test:
  /// InterfaceDialerTest.ReachesAListenerThatIsBoundToAnInterface
  [[nodiscard]] int bind_to_interface(std::uint32_t index) const {
    const int value = static_cast<int>(index);
    if (index == 0) return 0;
    return ::setsockopt(socket_.get(), SOL_SOCKET, SO_BINDTOIFINDEX, &value, sizeof value) == 0
               ? 0
               : errno;
  }

  void on_io(IoSource&, std::uint32_t) override {
    const int error = connected_to_itself() ? ECONNREFUSED : take_socket_error(socket_.get());
    source_->disarm();
    if (error == 0) {
      timer_.disarm();
      return handler_.on_dialled(std::move(socket_));
    }
    last_error_ = {error, "connect"};
    next();
  }

  /// A connect to a port of the ephemeral range where nobody listens may pick that very port as its
  /// own and meet itself. Source: RFC 9293, 3.5 (simultaneous open); platform test.
  [[nodiscard]] bool connected_to_itself() const {
    const auto local = local_endpoint(socket_.get());
    const Endpoint& dialled = candidates_[tried_ - 1].ip();
    return local && local->address == dialled.address && local->port == dialled.port;
  }

  /// In the next turn, since dial() may not call its handler.
  void give_up() {
    source_.reset();
    timer_.arm_now();
  }

  void fail_now() {
    source_.reset();
    stop_waiting();
    handler_.on_dialled(std::unexpected(last_error_));
  }

  void stop_waiting() noexcept {
    if (std::exchange(waiting_, false)) sockets_.withdraw(*this);
  }

  RelayContext& context_;
  SocketSource& sockets_;
  DialHandler& handler_;
  std::vector<Address> candidates_;
  std::size_t tried_ = 0;
  Error last_error_{};    ///< what to report if nothing better happens
  bool waiting_ = false;  ///< for a socket; after the outcome `sockets_` is not touched any more
  Timer timer_;
  UniqueFd socket_;
  std::optional<IoSource> source_;
};

}  // namespace

std::unique_ptr<Dial> NetnsDialer::dial(std::span<const Address> candidates, TimePoint deadline,
                                        DialHandler& handler) {
  return std::make_unique<NetnsDial>(context_, sockets_, candidates, deadline, handler);
}

}  // namespace portfwd
