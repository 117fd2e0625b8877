#include "dbus/bus_source.h"

#include <utility>

#include "dbus/sdbus_compat.h"

namespace portfwd {
namespace {

constexpr int kMessagesPerTurn = 64;  // a caller that floods us must not keep the relays waiting

}  // namespace

BusSource::BusSource(EventLoop& loop, sdbus::IConnection& connection, BusWork& work)
    : loop_(loop),
      connection_(connection),
      work_(work),
      source_(loop, compat::poll_needs(connection).fd, *this),
      deadline_(loop, [this] { due_ = true; }),
      farewell_(loop, [this] { work_.on_bus_lost(why_lost_); }) {
  loop_.add_hook(*this);
}

void BusSource::before_wait() {
  if (lost_) return;
  try {
    const bool more = std::exchange(due_, false) && drain();
    work_.before_bus_wait();
    wait_for_what_it_needs();
    if (more) deadline_.arm_now();
  } catch (const sdbus::Error& e) {
    lose(e.what());
  }
}

bool BusSource::drain() {
  for (int i = 0; i < kMessagesPerTurn; ++i) {
    if (!compat::process_one(connection_)) return false;
    work_.after_message();
  }
  return true;
}

void BusSource::wait_for_what_it_needs() {
  const compat::PollNeeds needs = compat::poll_needs(connection_);
  if (auto watched = source_.watch(needs.events); !watched) lose(watched.error().text().c_str());
  if (needs.timeout) {
    deadline_.arm_after(*needs.timeout);
  } else {
    deadline_.disarm();
  }
}

/// sd-bus reports an end of file on the socket as ECONNRESET or ENOTCONN from the next call.
/// The owner hears of it from the loop, since its answer may be to destroy this object.
void BusSource::lose(const char* why) {
  lost_ = true;
  why_lost_ = why;
  source_.disarm();
  deadline_.disarm();
  farewell_.arm_now();
}

}  // namespace portfwd
