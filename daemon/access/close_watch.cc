#include "access/close_watch.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "access/port_watch.h"
#include "base/log.h"

namespace portfwd {

CloseWatch::CloseWatch(EventLoop& loop, CloseRateLimit& rate_limit, UniqueFd socket,
                       PortWatch& watch)
    : loop_(loop),
      rate_limit_(rate_limit),
      watch_(watch),
      events_(std::move(socket)),
      source_(loop, events_.fd(), *this) {}

void CloseWatch::on_io(IoSource&, std::uint32_t) {
  watch_.on_closes();
}

bool CloseWatch::covered(std::span<const Port> ports) const {
  return std::ranges::all_of(ports, [this](Port port) { return events_.passes(port); });
}

/// A port too many in the filter costs a wake-up at most, so it is replaced only for a new one.
void CloseWatch::set_ports(std::span<const Port> ports, bool udp) {
  assert(std::ranges::is_sorted(ports));
  if (!covered(ports)) {
    if (const auto set = events_.filter(ports); !set) {
      log::debug("watch: {}; closes are found by polling", set.error().text());
      refused_ = true;
    }
  }
  wanted_ = !ports.empty();
  if (std::exchange(udp_, udp) != udp && events_.joined()) {
    source_.disarm();
    events_.leave();  // and back, into other groups
  }
  update_membership();
}

void CloseWatch::update_membership() {
  const bool join = wanted_ && !rate_limit_.exceeded(loop_.now()) && !refused_;
  if (join == events_.joined()) return;
  changed_ = true;
  if (!join) {
    source_.disarm();
    return events_.leave();
  }
  if (const auto joined = events_.join(udp_); !joined) {
    log::debug("watch: {}; closes are found by polling", joined.error().text());
    refused_ = true;
    return;
  }
  resume();
}

void CloseWatch::resume() {
  assert(events_.joined());
  if (const auto armed = source_.watch(EPOLLIN); !armed) {
    log::debug("watch: {}; closes are found by polling", armed.error().text());
  }
}

bool CloseWatch::refresh_membership() {
  update_membership();
  return std::exchange(changed_, false);
}

DestroyEvents::Batch CloseWatch::take() {
  const DestroyEvents::Batch batch = events_.drain();
  count(batch.closes);
  return batch;
}

void CloseWatch::count(std::uint64_t closes) {
  const TimePoint now = loop_.now();
  if (now >= window_ends_) {
    window_ends_ = now + kWindow;
    closes_ = 0;
  }
  closes_ += closes;
  if (closes_ <= kMostCloses) return;
  log::debug("watch: sockets close by the thousands; closes are found by polling");
  rate_limit_.exceed(now);
  update_membership();
}

}  // namespace portfwd
