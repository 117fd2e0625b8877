#include "watch/close_watch.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace portfwd {

namespace {

using namespace std::chrono_literals;

constexpr Duration kBusyInterval = 1s;   // between two reads of the counter
constexpr Duration kQuietInterval = 8s;  // at 15 µs each, for 200 containers: 0.04 % of a core

}  // namespace

CloseWatch::CloseWatch(EventLoop& loop, CloseStorm& storm, UniqueFd socket,
                       std::optional<NetSnmp> opens, Handler& handler)
    : loop_(loop),
      storm_(storm),
      handler_(handler),
      events_(std::move(socket)),
      source_(loop, events_.fd(), *this),
      opens_(std::move(opens)),
      rate_interval_(kBusyInterval) {}

bool CloseWatch::covered(std::span<const Port> ports) const {
  return filters_all_ports_ || std::ranges::includes(filtered_, ports);
}

/// A port too many in the filter costs a wake-up at most, so it is replaced only for a new one.
void CloseWatch::follow(std::span<const Port> ports, bool udp) {
  if (!covered(ports)) {
    if (const auto set = events_.filter(ports); !set) {
      log::debug("watch: {}; closes are found by looking", set.error().text());
      refused_ = true;
    }
    filtered_.assign(ports.begin(), ports.end());
    filters_all_ports_ = ports.size() > kMaxFilteredPorts;
  }
  wanted_ = !ports.empty();
  if (std::exchange(udp_, udp) != udp && events_.joined()) {
    source_.disarm();
    events_.leave();  // and back, into other groups
  }
  update_membership();
}

/// @return whether it has changed
bool CloseWatch::update_membership() {
  const bool join = wanted_ && !storm_.blowing() && !refused_;
  if (join == events_.joined()) return false;
  if (!join) {
    source_.disarm();
    events_.leave();
    return true;
  }
  if (const auto joined = events_.join(udp_); !joined) {
    log::debug("watch: {}; closes are found by looking", joined.error().text());
    refused_ = true;
    return false;
  }
  resume();
  return true;
}

void CloseWatch::resume() {
  if (const auto armed = source_.watch(EPOLLIN); !armed) {
    log::debug("watch: {}; closes are found by looking", armed.error().text());
  }
}

bool CloseWatch::follow_rate() {
  measure_rate();
  return update_membership();
}

void CloseWatch::measure_rate() {
  const TimePoint now = loop_.now();
  const bool first = rate_read_ == TimePoint::min();
  if (!opens_ || !wanted_ || (!first && now < rate_read_ + rate_interval_)) return;
  const auto opens = opens_->tcp_opens();
  if (!opens) return;
  if (!first) {
    const std::chrono::duration<double> passed = now - rate_read_;
    const double rate = static_cast<double>(*opens - opens_seen_) / passed.count();
    rate_interval_ =
        rate > kCalmRate / 2 ? kBusyInterval : std::min(rate_interval_ * 2, kQuietInterval);
    set_storm(rate > (storm_here_ ? kCalmRate : kStormRate));
  }
  opens_seen_ = *opens;
  rate_read_ = now;
}

void CloseWatch::set_storm(bool here) {
  if (std::exchange(storm_here_, here) == here) return;
  here ? storm_.begin() : storm_.end();
}

}  // namespace portfwd
