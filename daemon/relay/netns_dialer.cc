
#include "relay/netns_dialer.h"

#include <linux/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <vector>

#include "kernel/stream.h"

namespace portfwd {

UniqueFd HostSockets::acquire(Family family) {
  UniqueFd fd(::socket(address_family(family), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.valid()) context_.tune(fd.get());
  return fd;
}

void HostSockets::await(Family, SocketWaiter& waiter) {
  assert(std::ranges::find(waiting_, &waiter) == waiting_.end());
  waiting_.push_back(&waiter);
  refuse_.arm_now();
}

/// A taker that waits again from within its call is called in the next turn.
void HostSockets::refuse_waiting() {
  for (std::size_t left = waiting_.size(); left > 0 && !waiting_.empty(); --left) {
    SocketWaiter& waiter = *waiting_.front();
    waiting_.pop_front();
    waiter.on_socket(fail("socket", EMFILE));
  }
}

namespace {

// Source: include/net/tcp_states.h
constexpr std::uint8_t kSynSent = 2;
constexpr std::uint8_t kSynReceived = 3;
constexpr std::uint8_t kClosed = 7;

enum class Progress : std::uint8_t { Connected, InProgress, Failed };

/// The state of one socket that is being connected.
struct Connecting {
  Progress progress = Progress::Failed;
  Error error{};  ///< with Failed
};

/// connect(2) to a port of the ephemeral range where nothing listens may choose the same port as
/// the socket's own, and so connect the socket to itself. Source: RFC 9293, 3.5 (simultaneous
/// open); platform test.
bool is_connected_to_itself(int socket, const Endpoint& dialled) {
  const auto local = local_endpoint(socket);
  return local && local->address == dialled.address && local->port == dialled.port;
}

Connecting connected_unless_to_itself(int socket, const Endpoint& dialled) {
  if (!is_connected_to_itself(socket, dialled)) return {Progress::Connected};
  return {Progress::Failed, {ECONNREFUSED, "connect"}};
}

/// The state of a stream socket for which connect(2) has returned EINPROGRESS. A socket that is
/// connected to itself has received its own SYN and its own answer to it. A socket connected to a
/// target has usually received a single segment; if it has more, the addresses are compared.
/// Test: StreamFacts.ASocketThatMeetsItselfHasReceivedMoreThanOneSegment
Connecting handshake_of(int socket, const Endpoint& dialled) {
  tcp_info info{};
  socklen_t length = sizeof info;
  if (::getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) {
    return {Progress::Failed, {errno, "TCP_INFO"}};
  }
  if (info.tcpi_state == kSynSent || info.tcpi_state == kSynReceived) return {Progress::InProgress};
  if (info.tcpi_state == kClosed) {
    const int error = take_socket_error(socket);
    return {Progress::Failed, {error != 0 ? error : ECONNRESET, "connect"}};
  }
  if (info.tcpi_segs_in == 1) return {Progress::Connected};
  return connected_unless_to_itself(socket, dialled);
}

/// A listener that is bound to an interface accepts only connections that arrive over it, such as
/// those of a local client that is bound to it as well. connect(2) to 0.0.0.0 then leads to the
/// interface's own address; IPv6 has no counterpart.
/// Test: InterfaceDialerTest.ReachesAListenerThatIsBoundToAnInterface
bool bind_to_interface(int socket, std::uint32_t index) {
  const int value = static_cast<int>(index);
  return index == 0 ||
         ::setsockopt(socket, SOL_SOCKET, SO_BINDTOIFINDEX, &value, sizeof value) == 0;
}

Connecting start_connecting(int socket, const Endpoint& candidate) {
  if (!bind_to_interface(socket, candidate.interface)) {
    return {Progress::Failed, {errno, "bind to the interface"}};
  }
  const SockAddr address = to_sockaddr(candidate);
  if (::connect(socket, address.get(), address.length) == 0) {
    return connected_unless_to_itself(socket, candidate);
  }
  if (errno != EINPROGRESS) return {Progress::Failed, {errno, "connect"}};
  return handshake_of(socket, candidate);
}

/// The progress of an attempt.
struct Trial {
  std::size_t tried = 0;  ///< candidates
  UniqueFd socket{};      ///< of the last one tried, while its handshake is in progress
  Error last_error{};     ///< to report if no candidate accepts
};

/// An attempt without an outcome yet. It waits for a handshake or for a socket, or, if all
/// candidates have failed, for the next turn. Each candidate gets a socket of its own. The timer
/// ends the attempt at the deadline.
class NetnsDial final : public Dial, private IoHandler, private SocketWaiter {
 public:
  NetnsDial(EventLoop& loop, SocketSource& sockets, std::span<const Address> candidates,
            Trial&& trial, TimePoint deadline, DialHandler& handler)
      : loop_(loop),
        sockets_(sockets),
        handler_(handler),
        candidates_(candidates.begin(), candidates.end()),
        trial_(std::move(trial)),
        timer_(loop, [this] { fail_now(); }) {
    timer_.arm_at(deadline);
    if (trial_.socket.valid()) {
      await_handshake();
    } else if (trial_.tried < candidates_.size()) {
      await_socket();
    } else {
      timer_.arm_now();
    }
  }
  NetnsDial(const NetnsDial&) = delete;
  NetnsDial& operator=(const NetnsDial&) = delete;
  ~NetnsDial() override { stop_waiting(); }

 private:
  void await_socket() {
    assert(!waiting_ && trial_.tried < candidates_.size());
    trial_.last_error = {ETIMEDOUT, "socket"};
    waiting_ = true;
    sockets_.await(candidates_[trial_.tried].ip().address.family(), *this);
  }

  void await_handshake() {
    assert(trial_.socket.valid());
    trial_.last_error = {ETIMEDOUT, "connect"};
    source_.emplace(loop_, trial_.socket.get(), static_cast<IoHandler&>(*this));
    if (const auto armed = source_->watch(EPOLLOUT); !armed) {
      trial_.last_error = armed.error();
      timer_.arm_now();
    }
  }

  /// Tries candidates with sockets that are available; otherwise waits for one. Must not be called
  /// from within dial().
  void try_next() {
    while (trial_.tried < candidates_.size()) {
      UniqueFd socket = sockets_.acquire(candidates_[trial_.tried].ip().address.family());
      if (!socket.valid()) return await_socket();
      if (try_with(std::move(socket))) return;
    }
    timer_.arm_now();
  }

  void on_socket(Result<UniqueFd> socket) override {
    assert(waiting_);
    waiting_ = false;
    if (socket && try_with(std::move(*socket))) return;
    if (!socket) {
      trial_.last_error = socket.error();
      ++trial_.tried;  // there may be sockets of the other family
    }
    try_next();
  }

  /// @return false if the next candidate must be tried
  bool try_with(UniqueFd socket) {
    const Connecting now = start_connecting(socket.get(), candidates_[trial_.tried++].ip());
    trial_.socket = std::move(socket);
    if (now.progress == Progress::InProgress) return await_handshake(), true;
    return end_candidate(now);
  }

  void on_io(IoSource&, std::uint32_t) override {
    assert(trial_.socket.valid() && trial_.tried > 0);
    const int error = take_socket_error(trial_.socket.get());
    const Connecting now = error == 0 ? connected_unless_to_itself(
                                            trial_.socket.get(), candidates_[trial_.tried - 1].ip())
                                      : Connecting{Progress::Failed, {error, "connect"}};
    source_->disarm();
    if (!end_candidate(now)) try_next();
  }

  /// @return whether this candidate decided the outcome
  bool end_candidate(const Connecting& now) {
    assert(now.progress != Progress::InProgress);
    source_.reset();
    if (now.progress == Progress::Failed) {
      trial_.last_error = now.error;
      trial_.socket.reset();
      return false;
    }
    timer_.disarm();
    handler_.on_dialled(std::move(trial_.socket));
    return true;
  }

  void fail_now() {
    assert(trial_.last_error.code != 0);
    source_.reset();
    stop_waiting();
    handler_.on_dialled(std::unexpected(trial_.last_error));
  }

  void stop_waiting() noexcept {
    if (std::exchange(waiting_, false)) sockets_.withdraw(*this);
  }

  EventLoop& loop_;
  SocketSource& sockets_;
  DialHandler& handler_;
  std::vector<Address> candidates_;
  Trial trial_;
  bool waiting_ = false;  ///< for a socket; after the outcome `sockets_` is not used
  Timer timer_;
  std::optional<IoSource> source_;  ///< of trial_.socket, which is above
};

}  // namespace

DialStart NetnsDialer::dial(std::span<const Address> candidates, TimePoint deadline,
                            DialHandler& handler) {
  assert(!candidates.empty());
  Trial trial;
  while (trial.tried < candidates.size() && !trial.socket.valid()) {
    const Endpoint& candidate = candidates[trial.tried].ip();
    UniqueFd socket = sockets_.acquire(candidate.address.family());
    if (!socket.valid()) break;
    ++trial.tried;
    const Connecting now = start_connecting(socket.get(), candidate);
    if (now.progress == Progress::Connected) return {std::move(socket), nullptr};
    if (now.progress == Progress::InProgress) trial.socket = std::move(socket);
    trial.last_error = now.error;
  }
  return {UniqueFd(), std::make_unique<NetnsDial>(loop_, sockets_, candidates, std::move(trial),
                                                  deadline, handler)};
}

}  // namespace portfwd
