#include "relay/relay.h"

#include <sys/socket.h>

#include <cassert>

namespace portfwd {

namespace {

/// If the server resets the connection later, it had accepted it, and the client must be reset.
constexpr Duration kTurnedAwayWithin = std::chrono::seconds(1);

constexpr std::uint32_t kHangUpEvents = EPOLLHUP | EPOLLERR;  // reported even if not requested

}  // namespace

Relay::Relay(RelayContext& context, RelayGroup& group, UniqueFd client, UniqueFd target)
    : context_(context),
      group_(group),
      client_(context.loop(), std::move(client), *this),
      target_(context.loop(), std::move(target), *this),
      began_(context.loop().now()) {
  assert(client_.fd.valid() && target_.fd.valid());
  context_.add_relay();
}

Relay::Relay(RelayContext& context, RelayGroup& group, RelayRecord record)
    : context_(context),
      group_(group),
      client_(context, std::move(record.client), *this),
      target_(context, std::move(record.target), *this),
      began_(record.began) {
  assert(client_.fd.valid() && target_.fd.valid());
  family = record.family;
  redialled = record.redialled;
  context_.add_relay();
}

Relay::End::End(RelayContext& context, RelayRecord::End record, IoHandler& handler)
    : fd(record.socket.release()),
      source(context.loop(), fd.get(), handler),
      state(record.state),
      broken(record.broken),
      fin_sent(record.fin_sent),
      hung_up(record.hung_up) {
  pump.restore(context, std::move(record.pump));
}

RelayRecord::End Relay::End::save() {
  source.disarm();
  return {ResettingFd(std::move(fd)), pump.save(), state, broken, fin_sent, hung_up};
}

std::optional<RelayRecord> Relay::save() {
  assert(client_.fd.valid() && target_.fd.valid());
  return RelayRecord{client_.save(), target_.save(), began_, family, redialled};
}

Relay::~Relay() {
  abort();
  context_.remove_relay();
}

Result<void> Relay::start() {
  assert(client_.fd.valid() && target_.fd.valid());
  assert(client_.source.mask() == 0 && target_.source.mask() == 0);  // called once
  advance(client_, target_, RelayContext::kBufferSize);
  if (end_if_done()) return {};
  return watch_both();
}

/// A relay that was about to end continues to end; otherwise epoll reports what there is to do.
Result<void> Relay::resume() {
  assert(client_.fd.valid() && target_.fd.valid());
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
  assert(client_.fd.valid() && target_.fd.valid());  // a relay that is over is disarmed
  End& end = &source == &client_.source ? client_ : target_;
  End& other = &end == &client_ ? target_ : client_;
  const bool wanted_input = end.state == PumpState::NeedsInput;
  const bool wanted_output = other.state == PumpState::NeedsOutput;
  if ((events & EPOLLPRI) != 0) end.pump.copy_next();
  if (wanted_input && (events & (EPOLLIN | kHangUpEvents)) != 0) advance(end, other);
  const bool still_wanted = other.state == PumpState::NeedsOutput;  // unless `end` is broken
  if (still_wanted && (events & (EPOLLOUT | kHangUpEvents)) != 0) advance(other, end);
  if (!wanted_input && !wanted_output && (events & kHangUpEvents) != 0) check_for_reset(end, other);
  end_or_watch();
}

/// Runs one pump and acts on its state. close(2) sends the FIN of the direction that ends last.
void Relay::advance(End& from, End& to, std::size_t most) {
  std::uint64_t& delivered = &to == &target_ ? group_.counters.bytes_in : group_.counters.bytes_out;
  from.state = from.pump.run({context_, from.fd.get(), to.fd.get(), delivered}, most);
  if (from.state == PumpState::SinkBroken) mark_broken(to, from);
  if (from.state == PumpState::SourceBroken) {
    mark_broken(from, to);
    from.state = PumpState::Finished;
  }
  if (from.done() && !from.broken && !to.broken) {
    assert(!to.fin_sent);
    to.fin_sent = true;
    if (!to.done()) ::shutdown(to.fd.get(), SHUT_WR);
  }
}

/// For events at a side that waits neither for input nor for output. A Unix socket hangs up without
/// an error when its peer closes, which is an ordinary end.
void Relay::check_for_reset(End& end, End& other) {
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

/// The epoll mask of `end`, computed from both states. A side that waits neither for input nor for
/// output is watched for a reset alone; if it is broken or hung up, that would spin.
std::uint32_t Relay::interest(const End& end, const End& other) {
  std::uint32_t events = 0;
  if (end.state == PumpState::NeedsInput) events |= EPOLLIN | EPOLLPRI;
  if (other.state == PumpState::NeedsOutput) events |= EPOLLOUT;
  if (events != 0 || end.broken || end.hung_up) return events;
  return EPOLLERR;
}

/// Ends the relay if both directions have ended. @return whether they have
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

void Relay::end_or_watch() {
  if (end_if_done() || watch_both()) return;
  abort();
  group_.on_over(*this);
}

/// A RST discards what is in the send queue, so it is sent when the queue is empty. The peer's
/// kernel lets its program read what arrived before the RST.
void Relay::end_with_reset(End& lost, End& survivor) {
  assert(lost.broken && !survivor.broken);
  if (&lost == &target_ && was_turned_away()) {
    turned_away_ = true;
    client_.source.disarm();
    target_.source.close(target_.fd);
    return group_.on_over(*this);
  }
  lost.source.disarm();
  if (survivor.fin_sent) return discard_input_until_sent(survivor);
  if (unsent_bytes(survivor.fd.get()) > 0) {
    writable_when_all_is_sent(survivor.fd.get());
    if (survivor.source.watch(EPOLLOUT)) return;
  }
  reset_on_close(survivor.fd.get());
  finish();
}

bool Relay::was_turned_away() const {
  return context_.loop().now() - began_ <= kTurnedAwayWithin && !client_.pump.has_read() &&
         !target_.pump.has_read() && !client_.fin_sent && !target_.fin_sent;
}

UniqueFd Relay::release_turned_away() {
  return turned_away_ ? std::move(client_.fd) : UniqueFd();
}

/// After a FIN, epoll reports a socket as writable even if its send queue is not empty. So its
/// input is discarded until the queue is empty, or until the input ends. In the second case no
/// reset is needed, and the kernel sends the rest after close(), before which all input must have
/// been read.
void Relay::discard_input_until_sent(End& survivor) {
  const Transfer in = receive_some(survivor.fd.get(), context_.buffer());
  const bool open = in.moved() || in.outcome == Transfer::Outcome::WouldBlock;
  if (open && unsent_bytes(survivor.fd.get()) > 0 && survivor.source.watch(EPOLLIN)) return;
  if (open) reset_on_close(survivor.fd.get());
  finish();
}

void Relay::finish() {
  close_both();
  group_.on_over(*this);
}

/// No other descriptor may refer to either socket, see IoSource::close(). The client's socket was
/// accepted by this process, and the broker closes its copy of the target's socket at once. For a
/// relay that was restored, the former daemon must have closed its copies of both.
void Relay::close_both() {
  for (End* end : {&client_, &target_}) {
    end->pump.drop();
    if (end->fd.valid()) end->source.close(end->fd);
  }
}

}  // namespace portfwd
