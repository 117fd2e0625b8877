#include "relay/relay_context.h"

#include <fcntl.h>
#include <malloc.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <string_view>
#include <utility>

namespace portfwd {

namespace {

bool default_congestion_control_is_bbr() {
  const UniqueFd file(::open("/proc/sys/net/ipv4/tcp_congestion_control", O_RDONLY | O_CLOEXEC));
  std::array<char, 16> name{};  // TCP_CA_NAME_MAX
  const ssize_t size = ::read(file.get(), name.data(), name.size());
  return size > 0 && std::string_view(name.data(), static_cast<std::size_t>(size)) == "bbr\n";
}

}  // namespace

RelayContext::RelayContext(EventLoop& loop)
    : loop_(loop),
      buffer_(std::make_unique_for_overwrite<std::array<std::byte, kBufferSize>>()),
      prefer_reno_(default_congestion_control_is_bbr()) {
  loop_.add_hook(*this);
}

void RelayContext::before_wait() {
  const bool bulk = std::exchange(bulk_moved_, false);
  if (std::exchange(message_moved_, false) && bulk) ::sched_yield();
}

DatagramReceiver& RelayContext::datagrams() {
  if (!datagrams_) datagrams_ = std::make_unique<DatagramReceiver>();
  return *datagrams_;
}

void RelayContext::tune(int socket) const {
  static constexpr std::string_view kReno = "reno";
  const int on = 1;
  (void)::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  (void)::setsockopt(socket, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
  if (!prefer_reno_) return;
  (void)::setsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, kReno.data(), kReno.size());
}

void RelayContext::add_relay() {
  most_relays_ = std::max(most_relays_, ++relays_);
  had_many_ |= relays_ >= kTrimThreshold;
}

void RelayContext::remove_relay() {
  assert(relays_ > 0);
  --relays_;
  const bool most_ended = most_relays_ >= kTrimThreshold && relays_ <= most_relays_ / 4;
  const bool all_ended = relays_ == 0 && std::exchange(had_many_, false);
  if (!most_ended && !all_ended) return;
  loop_.release_memory();
  (void)::malloc_trim(0);
  most_relays_ = relays_;
}

}  // namespace portfwd
