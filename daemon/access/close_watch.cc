#include "access/close_watch.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace portfwd {

CloseWatch::CloseWatch(EventLoop& loop, CloseStorm& storm, UniqueFd socket, Handler& handler)
    : loop_(loop),
      storm_(storm),
      handler_(handler),
      events_(std::move(socket)),
      source_(loop, events_.fd(), *this) {}

bool CloseWatch::covered(std::span<const Port> ports) const {
  return std::ranges::all_of(ports, [this](Port port) { return events_.passes(port); });
}

/// A port too many in the filter costs a wake-up at most, so it is replaced only for a new one.
void CloseWatch::follow(std::span<const Port> ports, bool udp) {
  if (!covered(ports)) {
    if (const auto set = events_.filter(ports); !set) {
      log::debug("watch: {}; closes are found by looking", set.error().text());
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
  const bool join = wanted_ && !storm_.blowing(loop_.now()) && !refused_;
  if (join == events_.joined()) return;
  changed_ = true;
  if (!join) {
    source_.disarm();
    return events_.leave();
  }
  if (const auto joined = events_.join(udp_); !joined) {
    log::debug("watch: {}; closes are found by looking", joined.error().text());
    refused_ = true;
    return;
  }
  resume();
}

void CloseWatch::resume() {
  if (const auto armed = source_.watch(EPOLLIN); !armed) {
    log::debug("watch: {}; closes are found by looking", armed.error().text());
  }
}

bool CloseWatch::follow_storm() {
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
  log::debug("watch: sockets close by the thousands; closes are found by looking");
  storm_.begin(now);
  update_membership();
}

}  // namespace portfwd
