// The clients of load.h: one process, level-triggered epoll, some slots with one connection at a
// time each.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "bench/load.h"

namespace portfwd::bench {
namespace {

constexpr std::size_t kChunk = 128 * 1024;
constexpr auto kWarmUp = std::chrono::milliseconds(100);
constexpr auto kPatience = std::chrono::seconds(5);  // until all connections are established

class LoadClient {
 public:
  LoadClient(const Load& load, const Place& place)
      : load_(load),
        place_(place),
        at_(place.sockaddr()),
        epoll_(::epoll_create1(EPOLL_CLOEXEC)),
        slots_(load.connections),
        buffer_(std::max<std::size_t>(kChunk, load.size)) {}

  LoadResult run(std::chrono::milliseconds duration) {
    for (Slot& slot : slots_) begin(slot);
    const auto limit = Clock::now() + kPatience;
    while (!all_have_moved() && Clock::now() < limit) turn();
    if (!all_have_moved()) return {};
    all_are_there_ = true;
    if (load_.kind == LoadKind::Echo) std::ranges::for_each(slots_, [this](Slot& s) { ask(s); });
    run_for(kWarmUp);
    for (Slot& slot : slots_) slot.done = 0;
    answers_ = {};
    const auto began = Clock::now();
    run_for(duration);
    return result(std::chrono::duration<double>(Clock::now() - began).count());
  }

 private:
  struct Slot {
    UniqueFd fd;
    std::uint64_t done = 0;  ///< bytes of bulk loads, else operations
    std::size_t left = 0;    ///< bytes of the message that have not come back
    Clock::time_point asked;
    bool introduced = false;
  };

  void begin(Slot& slot) {
    slot.fd = make_socket(place_, SOCK_NONBLOCK);
    slot.introduced = false;
    const int on = 1;
    ::setsockopt(slot.fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)::connect(slot.fd.get(), at_.get(), at_.length);
    watch(EPOLL_CTL_ADD, slot, EPOLLOUT);
  }

  void watch(int op, Slot& slot, std::uint32_t mask) {
    epoll_event event{.events = mask, .data = {.ptr = &slot}};
    ::epoll_ctl(epoll_.get(), op, slot.fd.get(), &event);
  }

  void turn() {
    std::array<epoll_event, 256> events{};
    const int n = ::epoll_wait(epoll_.get(), events.data(), int(events.size()), 100);
    for (int i = 0; i < n; ++i) act(*static_cast<Slot*>(events[std::size_t(i)].data.ptr));
  }

  void run_for(Clock::duration time) {
    for (const auto end = Clock::now() + time; Clock::now() < end;) turn();
  }

  void act(Slot& slot) {
    if (!slot.introduced) return introduce(slot);
    if (load_.kind == LoadKind::Up) return pour(slot);
    if (load_.kind == LoadKind::Down) return swallow(slot);
    take_reply(slot);
  }

  void introduce(Slot& slot) {
    const auto kind = static_cast<std::uint32_t>(load_.kind);
    if (::send(slot.fd.get(), &kind, sizeof kind, MSG_NOSIGNAL) != sizeof kind) return begin(slot);
    slot.introduced = true;
    if (load_.kind == LoadKind::Up) return;
    watch(EPOLL_CTL_MOD, slot, EPOLLIN);
    if (load_.kind != LoadKind::Down) ask(slot);
  }

  void ask(Slot& slot) {
    slot.left = load_.size;
    if (load_.timed) slot.asked = Clock::now();
    (void)!::send(slot.fd.get(), buffer_.data(), load_.size, MSG_NOSIGNAL);
  }

  void pour(Slot& slot) {
    const ssize_t n = ::send(slot.fd.get(), buffer_.data(), kChunk, MSG_NOSIGNAL);
    if (n > 0) count(slot, n);
  }

  void swallow(Slot& slot) {
    const ssize_t n = ::recv(slot.fd.get(), buffer_.data(), kChunk, 0);
    if (n > 0) count(slot, n);
  }

  void count(Slot& slot, ssize_t more) {
    slot.done += std::uint64_t(more);
    carried_ += std::uint64_t(more);
  }

  void take_reply(Slot& slot) {
    const ssize_t n = ::recv(slot.fd.get(), buffer_.data(), buffer_.size(), 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return begin(slot);  // the relay has failed: this does not count
    slot.left -= std::min(slot.left, std::size_t(n));
    if (slot.left > 0) return;
    count(slot, 1);
    if (load_.timed) answers_.add(Clock::now() - slot.asked);
    if (load_.kind == LoadKind::ConnectEcho) return begin(slot);
    if (all_are_there_) ask(slot);  // before that, no request delays the relay's next connection
  }

  [[nodiscard]] bool all_have_moved() const {
    return std::ranges::all_of(slots_, [](const Slot& slot) { return slot.done > 0; });
  }

  [[nodiscard]] LoadResult result(double seconds) const {
    std::uint64_t sum = 0;
    for (const Slot& slot : slots_) sum += slot.done;
    const auto by_done = [](const Slot& a, const Slot& b) { return a.done < b.done; };
    const auto [least, most] = std::minmax_element(slots_.begin(), slots_.end(), by_done);
    const auto all = static_cast<double>(sum);
    return {.rate = all / seconds,
            .count = static_cast<double>(carried_),
            .fairness = most->done == 0 ? 0 : double(least->done) / double(most->done),
            .p99 = load_.timed ? answers_.percentile(99) : 0};
  }

  Load load_;
  Place place_;
  SockAddr at_;
  UniqueFd epoll_;
  std::vector<Slot> slots_;
  std::vector<char> buffer_;
  Samples answers_;
  bool all_are_there_ = false;
  std::uint64_t carried_ = 0;  ///< total of bytes or operations
};

}  // namespace

LoadResult run_load(const Load& load, const Place& place, std::chrono::milliseconds duration) {
  return LoadClient(load, place).run(duration);
}

UniqueFd idle_connection(const Place& place) {
  UniqueFd fd = make_socket(place);
  const SockAddr at = place.sockaddr();
  const timeval patience{.tv_sec = 5, .tv_usec = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const std::array<std::uint32_t, 2> hello{static_cast<std::uint32_t>(LoadKind::Echo), 0};
  char echo = 0;
  if (::connect(fd.get(), at.get(), at.length) != 0 ||
      ::send(fd.get(), hello.data(), sizeof hello, MSG_NOSIGNAL) != sizeof hello ||
      ::recv(fd.get(), &echo, 1, 0) != 1) {
    return {};
  }
  return fd;
}

}  // namespace portfwd::bench
