// See exec_hints.h. On a desktop a few programs start in a second; a compilation starts hundreds,
// and then a scan every 100 ms costs less than a wake-up for each.
#include "discover/exec_hints.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kSingly = 20;  // a second; more are taken in lots
constexpr std::size_t kMost = 200;   // a second; more are not worth it
constexpr Duration kLot = 20ms;
constexpr Duration kPause = 10s;
constexpr std::size_t kDatagrams = 256;

}  // namespace

ExecHints::ExecHints(EventLoop& loop, Callback callback)
    : loop_(loop),
      callback_(std::move(callback)),
      later_(loop, [this] { listening_ ? take() : start(); }) {}

void ExecHints::start() {
  auto connector = ProcConnector::open();
  if (!connector) {
    refused_ = connector.error();
    return;
  }
  IoHandler& handler = *this;
  listening_.emplace(loop_, std::move(*connector), handler);
  if (auto watched = listening_->source.watch(EPOLLIN); !watched) {
    refused_ = watched.error();
    listening_.reset();
  }
}

void ExecHints::on_io(IoSource&, std::uint32_t) {
  take();
}

void ExecHints::take() {
  const ProcConnector::Batch batch = listening_->connector.drain(kDatagrams);
  granted_ = granted_ || !batch.execs.empty();
  count(batch.events);
  if (in_window_ > kMost || batch.lost) {
    leave(kPause);
  } else if (in_window_ > kSingly) {
    listening_->source.disarm();
    later_.arm_after(kLot);
  } else if (auto watched = listening_->source.watch(EPOLLIN); !watched) {
    leave(kPause);
  }
  if (!batch.execs.empty() || batch.lost) callback_(batch.execs, batch.lost);
}

void ExecHints::count(std::size_t events) {
  const TimePoint now = loop_.now();
  if (now - window_ >= 1s) {
    window_ = now;
    in_window_ = 0;
  }
  in_window_ += events;
}

void ExecHints::leave(Duration pause) {
  listening_.reset();
  later_.arm_after(pause);
}

std::string ExecHints::state() const {
  if (refused_.code == EPERM) return "no: the kernel grants them to users since Linux 6.6";
  if (refused_.code != 0) return "no: " + refused_.text();
  if (!granted_)
    return "no: the kernel has not acknowledged them (they need the initial namespaces)";
  return listening_ ? "yes" : "paused: too many programs start";
}

}  // namespace portfwd
