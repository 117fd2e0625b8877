
#include "relay/datagram_port.h"

#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "base/log.h"
#include "kernel/datagrams.h"
#include "relay/port_record.h"

namespace portfwd {

namespace {

constexpr int kMostDiscarded = 4096;  // in one call, even if the sender is faster

}  // namespace

DatagramSocket::DatagramSocket(EventLoop& loop, BoundSocket bound, IoHandler& handler)
    : endpoint_(bound.address.ip()),
      fd_(std::move(bound.socket)),
      source_(loop, fd_.get(), handler) {
  receive_together(fd_.get());
  if (endpoint_.address.is_any()) enable_arrival_address(fd_.get(), endpoint_.address.family());
  refuse();
}

DatagramSocket::DatagramSocket(EventLoop& loop, BoundSocket bound, bool refusing,
                               IoHandler& handler)
    : endpoint_(bound.address.ip()),
      fd_(std::move(bound.socket)),
      source_(loop, fd_.get(), handler),
      refusing_(refusing) {}

UniqueFd DatagramSocket::save() {
  source_.disarm();
  return std::move(fd_);
}

void DatagramSocket::connect_to(const SockAddr& address) const {
  (void)::connect(fd_.get(), address.get(), address.length);
}

/// Empties the queue, which connect(2) does not.
void DatagramSocket::discard() const {
  for (int i = 0; i < kMostDiscarded; ++i) {
    if (::recv(fd_.get(), nullptr, 0, MSG_DONTWAIT | MSG_TRUNC) < 0) return;
  }
}

void DatagramSocket::refuse() {
  (void)source_.watch(0);
  if (!endpoint_.address.is_any()) connect_to(to_sockaddr(endpoint_));
  discard();
  refusing_ = true;
}

/// Connecting to an address of family AF_UNSPEC dissolves the association. Source: udp(7),
/// connect(2).
void DatagramSocket::receive(bool watched) {
  if (std::exchange(refusing_, false)) {
    if (endpoint_.address.is_any()) discard();
    SockAddr none;
    none.storage.ss_family = AF_UNSPEC;
    none.length = sizeof(sockaddr);
    connect_to(none);
  }
  (void)source_.watch(watched ? EPOLLIN : 0U);
}

std::expected<void, BindFailure> DatagramListener::bind(std::span<const Address> addresses) {
  assert(sockets_.empty());
  auto bound = bind_together(Protocol::Udp, addresses);
  if (!bound) return std::unexpected(bound.error());
  for (BoundSocket& socket : *bound) {
    addresses_.push_back(socket.address);
    identity_.add_port(socket.address.ip());
    sockets_.emplace_back(loop_, std::move(socket), handler_);
  }
  return {};
}

std::vector<BoundSocket> DatagramListener::save() {
  std::vector<BoundSocket> saved;
  for (DatagramSocket& socket : sockets_)
    saved.push_back({addresses_[saved.size()], socket.save()});
  close();
  return saved;
}

void DatagramListener::restore(std::vector<BoundSocket> sockets, bool refusing) {
  assert(sockets_.empty());
  for (BoundSocket& socket : sockets) {
    addresses_.push_back(socket.address);
    identity_.add_port(socket.address.ip());
    sockets_.emplace_back(loop_, std::move(socket), refusing, handler_);
  }
}

void DatagramListener::close() {
  for (const Address& bound : addresses_) identity_.remove_port(bound.ip());
  sockets_.clear();
  addresses_.clear();
}

void DatagramListener::receive(bool watched) {
  for (DatagramSocket& socket : sockets_) socket.receive(watched);
}

void DatagramListener::refuse() {
  for (DatagramSocket& socket : sockets_) socket.refuse();
}

Endpoint DatagramListener::local_end(std::size_t index, const std::optional<IpAddress>& at) const {
  const Endpoint& bound = (*this)[index].endpoint();
  return {at.value_or(bound.address), bound.port};
}

std::size_t DatagramListener::index_of(const IoSource& source) const {
  const auto found =
      std::ranges::find_if(sockets_, [&](const DatagramSocket& s) { return s.is(source); });
  assert(found != sockets_.end());
  return static_cast<std::size_t>(found - sockets_.begin());
}

bool Flow::restore(FlowRecord record) {
  assert(!ended_ && !connected() && !dialling());
  asked_ = record.asked;
  answered_ = record.answered;
  examined = record.examined;
  client_inode = record.client_inode;
  kept_ = std::move(record.kept);
  for (const auto& datagram : kept_) kept_bytes_ += std::max(datagram.size(), kLeastCharge);
  if (!record.socket.valid()) return true;
  socket_ = std::move(record.socket);
  source_.emplace(core_.loop(), socket_.get(), static_cast<IoHandler&>(*this));
  return source_->watch(EPOLLIN).has_value();
}

FlowRecord Flow::save() {
  end();
  return {.client = key.client,
          .at = key.at,
          .socket_index = socket_index,
          .socket = std::move(socket_),
          .asked = asked_,
          .answered = answered_,
          .used = used,
          .examined = examined,
          .client_inode = client_inode,
          .kept = std::move(kept_)};
}

void Flow::dial() {
  assert(!ended_ && !connected() && !dialling());
  DialStart start = core_.dial(key.client.address.family(), *this);
  dial_ = std::move(start.attempt);
  if (start.connected.valid()) on_dialled(std::move(start.connected));
}

void Flow::on_dialled(Result<UniqueFd> connected) {
  assert(!ended_);
  core_.loop().retire(std::move(dial_));
  if (!connected) return port_.on_flow_failed(*this, connected.error());
  socket_ = std::move(*connected);
  receive_together(socket_.get());
  source_.emplace(core_.loop(), socket_.get(), static_cast<IoHandler&>(*this));
  if (const auto armed = source_->watch(EPOLLIN); !armed) {
    source_.reset();
    socket_.reset();
    return port_.on_flow_failed(*this, armed.error());
  }
  port_.on_flow_connected(*this);
}

void Flow::on_io(IoSource&, std::uint32_t) {
  port_.on_answers(*this);
}

void Flow::end() {
  assert(!ended_);
  ended_ = true;
  dial_.reset();
  if (source_) source_->disarm();
}

DatagramsSent Flow::deliver(std::span<const Datagrams> messages) {
  for (const Datagrams& message : messages) asked_ += message.count();
  if (socket_.valid()) return send_datagrams(socket_.get(), messages);
  for (const Datagrams& message : messages) keep(message);
  return {};
}

void Flow::keep(const Datagrams& message) {
  for (std::size_t at = 0; at < message.bytes.size() || at == 0; at += message.each) {
    const auto rest = message.bytes.subspan(at);
    const auto one = rest.first(std::min(message.each, rest.size()));
    kept_bytes_ += std::max(one.size(), kLeastCharge);
    if (kept_bytes_ > kMostKept && !kept_.empty()) return;
    kept_.emplace_back(one.begin(), one.end());
    if (message.each == 0) return;
  }
}

void Flow::count_answers(std::span<const Datagrams> messages) {
  for (const Datagrams& message : messages) answered_ += message.count();
}

DatagramsSent Flow::send_kept_datagrams() {
  assert(connected());
  const auto kept = std::exchange(kept_, {});
  std::vector<Datagrams> messages;
  messages.reserve(kept.size());
  for (const auto& one : kept) messages.push_back({one, one.size()});
  return send_datagrams(socket_.get(), messages);
}

namespace {

constexpr int kRoundsPerTurn = 4;  // of DatagramReceiver::kMessages each

}  // namespace

DatagramPort::DatagramPort(const RelayServices& services, ForwardPortSettings settings,
                           ForwardPortObserver& observer)
    : ForwardPort(services, std::move(settings), observer),
      gate_member_(core_.gate()),
      listener_(core_.loop(), core_.identity(), *this),
      mode_timeout_(core_.loop(), [this] { on_mode_timeout(); }),
      idle_(core_.loop(), [this] { drop_idle(); }),
      dial_unconnected_(core_.loop(), [this] { dial_unconnected(); }),
      drained_(core_.loop(), [this] { core_.notify_drained(); }) {}

// ---- commands and modes ------------------------------------------------------------------------

/// Cancels dials at once: their dialer may be destroyed next.
std::expected<void, BindFailure> DatagramPort::hold() {
  for (Flow* const flow : unconnected()) {
    if (core_.holds_clients()) {
      flow->stop_dialling();
    } else {
      drop(*flow);
    }
  }
  dial_unconnected_.disarm();
  const bool held = core_.phase() == PortCore::Phase::Holding;
  core_.hold();
  if (!held) enter(mode_without_listener());
  return {};
}

void DatagramPort::configure(ForwardPortSettings settings) {
  const bool other = settings.hold != core_.settings().hold;
  core_.set_settings(std::move(settings));
  if (other && core_.phase() == PortCore::Phase::Holding) enter(mode_without_listener());
}

DatagramPort::Mode DatagramPort::mode_without_listener() const {
  if (!flows_.empty()) return Mode::Finishing;
  return core_.holds_clients() ? Mode::Waiting : Mode::Refusing;
}

std::expected<void, BindFailure> DatagramPort::serve(Dialer& dialer,
                                                     std::span<const ListenAddress> listeners) {
  core_.serve(dialer, listeners);
  for (Flow* const flow : unconnected()) {
    flow->stop_dialling();
    dial_unconnected_.arm_now();  // in the next turn, since it may call the observer
  }
  enter(Mode::Serving);
  return {};
}

/// The observer of a refusal may end other flows, or the phase.
void DatagramPort::dial_unconnected() {
  for (Flow* const flow : unconnected()) {
    if (!core_.serving()) return;
    if (!flow->ended() && !flow->dialling() && !flow->connected()) flow->dial();
  }
}

void DatagramPort::drain(Duration) {
  core_.drain();
  dial_unconnected_.disarm();
  mode_ = Mode::Closed;
  drop_all();
  mode_timeout_.disarm();
  listener_.close();
  drained_.arm_now();
}

PortRecord DatagramPort::save() {
  PortRecord record{.counters = core_.counters(), .refusing = listener_.refusing()};
  record.sockets = listener_.save();
  while (!flows_.empty()) {
    Flow& flow = flows_.any();
    record.flows.push_back(flow.save());
    (void)flows_.remove(flow);
  }
  unconnected_ = 0;
  mode_ = Mode::Closed;
  for (Timer* const timer : {&mode_timeout_, &idle_, &dial_unconnected_, &drained_})
    timer->disarm();
  return record;
}

/// Adds flows in the order of their last use, which the table relies on.
void DatagramPort::restore(PortRecord record) {
  assert(core_.phase() == PortCore::Phase::New && flows_.empty());
  core_.counters() = record.counters;
  listener_.restore(std::move(record.sockets), record.refusing);
  std::ranges::sort(record.flows, {}, &FlowRecord::used);
  for (FlowRecord& saved : record.flows) {
    const FlowKey client{saved.client, saved.at};
    const TimePoint used = saved.used;
    Flow& flow = flows_.add(std::make_unique<Flow>(*this, core_, client, saved.socket_index), used);
    if (!saved.socket.valid()) ++unconnected_;
    if (flow.restore(std::move(saved))) {
      flows_.touch(flow, used);
    } else {
      ++core_.counters().failed;
      drop(flow);
    }
  }
  core_.counters().active = flows_.size();
  gate_member_.set_connections(flows_.size());
  arm_idle_timer();
}

void DatagramPort::enter(Mode mode) {
  assert(mode_ != Mode::Closed && mode != Mode::Closed);
  assert(mode != Mode::Serving || core_.serving());
  mode_ = mode;
  mode_timeout_.disarm();
  if (mode == Mode::Finishing) mode_timeout_.arm_after(kFinishTimeout);
  if (mode == Mode::Refusing) {
    listener_.refuse();
  } else {
    listener_.receive(true);
  }
}

void DatagramPort::on_mode_timeout() {
  if (mode_ == Mode::Finishing) return drop_all();
  if (mode_ == Mode::Refusing) {
    return enter(core_.serving() ? Mode::Serving : mode_without_listener());
  }
  assert(mode_ == Mode::Waiting);
  ++core_.counters().failed;
  enter(Mode::Refusing);
  mode_timeout_.arm_after(core_.settings().hold);
}

// ---- towards the target ------------------------------------------------------------------------

/// In Mode::Waiting the first datagram starts the timeout, and all datagrams stay in the kernel.
void DatagramPort::on_io(IoSource& source, std::uint32_t) {
  if (mode_ == Mode::Waiting) {
    listener_.receive(false);
    return mode_timeout_.arm_after(core_.settings().hold);
  }
  const std::size_t socket_index = listener_.index_of(source);
  for (int round = 0; round < kRoundsPerTurn; ++round) {
    if (mode_ != Mode::Serving && mode_ != Mode::Finishing) return;
    const auto received = core_.context().datagrams().receive(listener_[socket_index].fd());
    if (!received) return;
    const bool all = received->all;
    relay_batch(socket_index, *received);
    if (all) return;
  }
}

/// Sends the datagrams of each client in one call, in their order; between clients no order is
/// kept. Refusals are handled at the end, since that may use the receiver.
void DatagramPort::relay_batch(std::size_t socket_index, const ReceivedDatagrams& received) {
  std::vector<FlowKey> refused;
  std::array<bool, DatagramReceiver::kMessages> done{};
  for (std::size_t first = 0; first < received.messages.size(); ++first) {
    if (done[first]) continue;
    std::array<Datagrams, DatagramReceiver::kMessages> client_messages;
    std::size_t count = 0;
    for (std::size_t i = first; i < received.messages.size(); ++i) {
      if (done[i] || received.ends[i] != received.ends[first]) continue;
      done[i] = true;
      client_messages[count++] = received.messages[i];
    }
    Flow* const flow = flow_of(socket_index, received.ends[first]);
    if (flow == nullptr) continue;
    const DatagramsSent sent = flow->deliver(std::span(client_messages).first(count));
    touch(*flow);
    core_.counters().bytes_in += sent.bytes;
    if (sent.error == ECONNREFUSED) refused.push_back(flow->key);
  }
  for (const FlowKey& key : refused) {
    Flow* const flow = flows_.find(key);  // an observer may have ended it meanwhile
    if (flow != nullptr) end_refused(*flow, {ECONNREFUSED, "send"});
  }
}

Flow* DatagramPort::flow_of(std::size_t socket_index, const Arrived& end) {
  const FlowKey client{end.from, end.at};
  Flow* flow = flows_.find(client);
  if (flow != nullptr && authorize_again(*flow)) return flow;
  if (flow != nullptr) drop(*flow);
  const bool may_wait = mode_ == Mode::Finishing && core_.holds_clients();
  return mode_ == Mode::Serving || may_wait ? admit(client, socket_index) : nullptr;
}

/// Authorizes the client again, at most once in kExamineInterval. Its port may now belong to
/// another socket, possibly of another user, or to none.
bool DatagramPort::authorize_again(Flow& flow) {
  if (core_.now() < flow.examined + kExamineInterval) return true;
  flow.examined = core_.now();
  return core_.identity().is_still_allowed(flow.key.client,
                                           listener_.local_end(flow.socket_index, flow.key.at),
                                           core_.settings().admission, flow.client_inode);
}

/// Authorizes a new client and creates its flow. @return null if the client is refused, if there is
/// no room, or if no socket could be connected
Flow* DatagramPort::admit(const FlowKey& client, std::size_t socket_index) {
  const ClientVerdict verdict = core_.identity().examine_sender(
      client.client, listener_.local_end(socket_index, client.at), core_.settings().admission);
  if (!core_.authorize(verdict, client.client) || unconnected_ >= kMostUnconnected) return nullptr;
  const std::size_t limit = core_.settings().max_connections;
  const bool room = flows_.size() < (limit == 0 ? kMostFlows : limit) && gate_member_.admitted();
  if (!room && flows_.empty()) return nullptr;
  if (!room) drop(flows_.to_evict());
  Flow& flow = flows_.add(std::make_unique<Flow>(*this, core_, client, socket_index), core_.now());
  flow.examined = core_.now();
  flow.client_inode = verdict.inode;
  ++core_.counters().total;
  ++unconnected_;
  core_.counters().active = flows_.size();
  gate_member_.set_connections(flows_.size());
  if (mode_ == Mode::Serving) flow.dial();
  return flow.ended() ? nullptr : &flow;
}

std::vector<Flow*> DatagramPort::unconnected() const {
  if (unconnected_ == 0) return {};
  return flows_.flows_where([](const Flow& flow) { return !flow.connected(); });
}

// ---- towards the client ------------------------------------------------------------------------

void DatagramPort::on_flow_connected(Flow& flow) {
  assert(unconnected_ > 0);
  --unconnected_;
  gate_member_.accepted(flow.socket());
  core_.notify_reached();
  if (flow.ended()) return;
  const DatagramsSent sent = flow.send_kept_datagrams();
  core_.counters().bytes_in += sent.bytes;
  if (sent.error == ECONNREFUSED) end_refused(flow, {sent.error, "send"});
}

void DatagramPort::on_flow_failed(Flow& flow, const Error& error) {
  core_.note_dial_failed(error);
  end_refused(flow, error);
}

/// A client that is no longer allowed gets no answers. The target gets an ICMP error for the next
/// datagram that it sends.
void DatagramPort::on_answers(Flow& flow) {
  if (!authorize_again(flow)) return drop(flow);
  const Error error = relay_answers(flow);
  if (error.code != 0) end_refused(flow, error);
}

/// @return the error that was reported by ICMP; code 0 if none was
Error DatagramPort::relay_answers(Flow& flow) {
  Error error{};
  const DatagramRoute back{flow.key.client, flow.key.at};
  for (int round = 0; round < kRoundsPerTurn; ++round) {
    const auto received = core_.context().datagrams().receive(flow.socket());
    if (!received) {
      error = received.error();
      continue;  // earlier datagrams are still in the queue
    }
    if (received->messages.empty()) break;
    const bool all = received->all;
    const auto sent = send_datagrams(listener_[flow.socket_index].fd(), received->messages, &back);
    core_.counters().bytes_out += sent.bytes;
    flow.count_answers(received->messages);
    touch(flow);
    if (all) break;
  }
  return error;
}

/// Ends a flow that the target has refused. New clients are refused only when no flow is left: a
/// server may have one socket for each client and close one of them.
void DatagramPort::end_refused(Flow& flow, const Error& error) {
  ++core_.counters().failed;
  drop(flow);
  core_.notify_refused(error);
  if (mode_ != Mode::Serving || !flows_.empty()) return;
  enter(Mode::Refusing);
  mode_timeout_.arm_after(kRefusal);
}

// ---- flows -------------------------------------------------------------------------------------

void DatagramPort::touch(Flow& flow) {
  flows_.touch(flow, core_.now());
  arm_idle_timer();
}

void DatagramPort::arm_idle_timer() {
  const auto next = flows_.next_expiry();
  if (next && (!idle_.armed() || *next < idle_.when())) idle_.arm_at(*next);
}

void DatagramPort::drop_idle() {
  while (Flow* flow = flows_.expired(core_.now())) drop(*flow);
  arm_idle_timer();
}

void DatagramPort::drop(Flow& flow) {
  if (!flow.connected()) {
    assert(unconnected_ > 0);
    --unconnected_;
  }
  flow.end();
  core_.loop().retire(flows_.remove(flow));
  core_.counters().active = flows_.size();
  gate_member_.set_connections(flows_.size());
  core_.gate().descriptor_freed();
  if (mode_ == Mode::Finishing && flows_.empty()) enter(mode_without_listener());
}

/// Ends all flows, after relaying answers that have arrived.
void DatagramPort::drop_all() {
  while (!flows_.empty()) {
    Flow& flow = flows_.any();
    if (flow.connected() && authorize_again(flow)) (void)relay_answers(flow);
    drop(flow);
  }
}

}  // namespace portfwd
