#include "relay/relay.h"

#include <sys/socket.h>

#include <cassert>

namespace portfwd {

namespace {

/// A server that resets later had accepted the client: that is the client's to know.
constexpr Duration kTurnedAwayWithin = std::chrono::seconds(1);

constexpr std::uint32_t kGone = EPOLLHUP | EPOLLERR;  // reported whether asked for or not

}  // namespace

Relay::Relay(RelayContext& context, UniqueFd client, UniqueFd target, Counters& counters,
             RelayObserver& observer)
    : context_(context),
      observer_(observer),
      client_(context, std::move(client), target.get(), counters.bytes_in, *this),
      target_(context, std::move(target), client_.fd.get(), counters.bytes_out, *this),
      began_(context.loop().now()) {
  context_.count_in();
}

Relay::~Relay() {
  abort();
  context_.count_out();
}

Result<void> Relay::start() {
  assert(client_.fd.valid() && target_.fd.valid());
  advance(client_, target_, RelayContext::kBufferSize);
  if (end_if_done()) return {};
  return watch_both();
}

Result<void> Relay::watch_both() {
  if (auto armed = client_.source.watch(interest(client_, target_)); !armed) return armed;
  return target_.source.watch(interest(target_, client_));
}

void Relay::abort() {
  for (const End* end : {&client_, &target_}) {
    if (end->fd.valid()) reset_on_close(end->fd.get());
  }
  close_both();
}

void Relay::on_io(IoSource& source, std::uint32_t events) {
  assert(client_.fd.valid() && target_.fd.valid());  // one that is over is disarmed
  End& end = &source == &client_.source ? client_ : target_;
  End& other = &end == &client_ ? target_ : client_;
  const bool wanted_input = end.state == PumpState::NeedsInput;
  const bool wanted_output = other.state == PumpState::NeedsOutput;
  if ((events & EPOLLPRI) != 0) end.pump.copy_next();
  if (wanted_input && (events & (EPOLLIN | kGone)) != 0) advance(end, other);
  const bool still_wanted = other.state == PumpState::NeedsOutput;  // unless `end` proved broken
  if (still_wanted && (events & (EPOLLOUT | kGone)) != 0) advance(other, end);
  if (!wanted_input && !wanted_output && (events & kGone) != 0) look_for_reset(end, other);
  settle();
}

/// The FIN that follows the last byte of the second direction is left to close(2).
void Relay::advance(End& from, End& to, std::size_t most) {
  from.state = from.pump.run(most);
  if (from.state == PumpState::SinkBroken) mark_broken(to, from);
  if (from.state == PumpState::SourceBroken) {
    mark_broken(from, to);
    from.state = PumpState::Finished;
  }
  if (from.done() && !from.broken && !to.broken) {
    to.told_end = true;
    if (!to.done()) ::shutdown(to.fd.get(), SHUT_WR);
  }
}

/// @param end nothing was wanted of it, so this is news. A Unix socket hangs up without an error
/// when its peer closes, which is an ordinary end.
void Relay::look_for_reset(End& end, End& other) {
  if (take_socket_error(end.fd.get()) != 0) {
    mark_broken(end, other);
  } else {
    end.hung_up = true;
  }
}

void Relay::mark_broken(End& end, End& other) {
  end.broken = true;
  other.state = PumpState::Finished;
  other.pump.drop();
}

/// What to wait for at `end`, computed from both states and never patched. A side that neither
/// gives nor takes at the moment is watched for a reset alone; a broken one would spin.
std::uint32_t Relay::interest(const End& end, const End& other) {
  std::uint32_t events = 0;
  if (end.state == PumpState::NeedsInput) events |= EPOLLIN | EPOLLPRI;
  if (other.state == PumpState::NeedsOutput) events |= EPOLLOUT;
  if (events != 0 || end.broken || end.hung_up) return events;
  return EPOLLERR;
}

/// @return whether both directions have ended
bool Relay::end_if_done() {
  if (!client_.done() || !target_.done()) return false;
  if (client_.broken == target_.broken) {
    finish();
  } else if (client_.broken) {
    end_with_reset(client_, target_);
  } else {
    end_with_reset(target_, client_);
  }
  return true;
}

void Relay::settle() {
  if (end_if_done() || watch_both()) return;
  abort();
  observer_.on_relay_over(*this);
}

/// A RST overtakes what waits in the send queue, so it is sent when that has left. The peer's
/// kernel lets its program read what arrived before the RST.
void Relay::end_with_reset(End& lost, End& survivor) {
  assert(lost.broken && !survivor.broken);
  if (&lost == &target_ && was_turned_away()) {
    turned_away_ = true;
    client_.source.disarm();
    target_.source.close(target_.fd);
    return observer_.on_relay_over(*this);
  }
  lost.source.disarm();
  if (survivor.told_end) return hear_out(survivor);
  if (unsent_bytes(survivor.fd.get()) > 0) {
    writable_when_all_is_sent(survivor.fd.get());
    if (survivor.source.watch(EPOLLOUT)) return;
  }
  reset_on_close(survivor.fd.get());
  finish();
}

bool Relay::was_turned_away() const {
  return context_.loop().now() - began_ <= kTurnedAwayWithin && !client_.pump.has_read() &&
         !target_.pump.has_read() && !client_.told_end && !target_.told_end;
}

UniqueFd Relay::take_turned_away() {
  return turned_away_ ? std::move(client_.fd) : UniqueFd();
}

/// One that was sent all and a FIN counts as writable from then on, whatever waits in the queue. So
/// what it still says is thrown away until all has left, or until it has said all: then nobody is
/// left to be reset, and the kernel sees to the rest after close(), which must find nothing unread.
void Relay::hear_out(End& survivor) {
  const Transfer in = receive_some(survivor.fd.get(), context_.buffer());
  const bool talks = in.moved() || in.outcome == Transfer::Outcome::WouldBlock;
  if (talks && unsent_bytes(survivor.fd.get()) > 0 && survivor.source.watch(EPOLLIN)) return;
  if (talks) reset_on_close(survivor.fd.get());
  finish();
}

void Relay::finish() {
  close_both();
  observer_.on_relay_over(*this);
}

/// No other descriptor refers to either socket: a client's was accepted here, and the broker closes
/// its copy of a target's before it does anything else.
void Relay::close_both() {
  for (End* end : {&client_, &target_}) {
    end->pump.drop();
    if (end->fd.valid()) end->source.close(end->fd);
  }
}

}  // namespace portfwd
