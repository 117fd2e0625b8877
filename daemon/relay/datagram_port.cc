
#include "relay/datagram_port.h"

#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "base/log.h"
#include "kernel/datagrams.h"

namespace portfwd {

namespace {

constexpr int kMostQueued = 4096;  // who sends faster than that is not waited for

}  // namespace

DatagramSocket::DatagramSocket(EventLoop& loop, BoundSocket bound, IoHandler& handler)
    : endpoint_(bound.address.ip()),
      fd_(std::move(bound.socket)),
      source_(loop, fd_.get(), handler) {
  receive_together(fd_.get());
  if (endpoint_.address.is_any()) tell_arrival_address(fd_.get(), endpoint_.address.family());
  refuse();
}

void DatagramSocket::connect_to(const SockAddr& address) const {
  (void)::connect(fd_.get(), address.get(), address.length);  // to oneself, or to nobody
}

/// Connecting does not empty the queue.
void DatagramSocket::discard() const {
  for (int i = 0; i < kMostQueued; ++i) {
    if (::recv(fd_.get(), nullptr, 0, MSG_DONTWAIT | MSG_TRUNC) < 0) return;
  }
}

void DatagramSocket::refuse() {
  (void)source_.watch(0);
  if (!endpoint_.address.is_any()) connect_to(to_sockaddr(endpoint_));
  discard();
  refusing_ = true;
}

/// Nobody is an address without a family. Source: udp(7), connect(2).
void DatagramSocket::listen(bool heard) {
  if (std::exchange(refusing_, false)) {
    if (endpoint_.address.is_any()) discard();
    SockAddr nobody;
    nobody.storage.ss_family = AF_UNSPEC;
    nobody.length = sizeof(sockaddr);
    connect_to(nobody);
  }
  (void)source_.watch(heard ? EPOLLIN : 0U);
}

void Flow::dial(Dialer& dialer, std::span<const Address> candidates, TimePoint deadline) {
  DialStart start = dialer.dial(candidates, deadline, *this);
  dial_ = std::move(start.attempt);
  if (start.connected.valid()) on_dialled(std::move(start.connected));
}

void Flow::on_dialled(Result<UniqueFd> connected) {
  loop_.retire(std::move(dial_));
  if (!connected) return observer_.on_flow_failed(*this, connected.error());
  socket_ = std::move(*connected);
  receive_together(socket_.get());
  source_.emplace(loop_, socket_.get(), static_cast<IoHandler&>(*this));
  if (const auto armed = source_->watch(EPOLLIN); !armed) {
    source_.reset();
    socket_.reset();
    return observer_.on_flow_failed(*this, armed.error());
  }
  observer_.on_flow_connected(*this);
}

void Flow::end() {
  assert(!ended_);
  ended_ = true;
  dial_.reset();
  if (source_) source_->disarm();
}

DatagramsSent Flow::deliver(std::span<const Datagrams> messages) {
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

DatagramsSent Flow::deliver_kept() {
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
    : services_(services),
      settings_(std::move(settings)),
      observer_(observer),
      patience_(services.context.loop(), [this] { on_patience_over(); }),
      idle_(services.context.loop(), [this] { drop_idle(); }),
      dial_unconnected_(services.context.loop(), [this] { dial_for_unconnected(); }),
      drained_(services.context.loop(), [this] { observer_.on_drained(*this); }) {
  services_.gate.join(*this);
}

DatagramPort::~DatagramPort() {
  give_up_ports();
  services_.gate.leave(*this);
}

// ---- what it is told ---------------------------------------------------------------------------

std::expected<void, BindFailure> DatagramPort::bind(std::span<const Address> addresses) {
  auto bound = bind_together(Protocol::Udp, addresses);
  if (!bound) return std::unexpected(bound.error());
  IoHandler& self = *this;  // a private base: visible here, not in the deque
  for (BoundSocket& socket : *bound) {
    addresses_.push_back(socket.address);
    services_.identity.add_port(socket.address.ip());
    sockets_.emplace_back(services_.context.loop(), std::move(socket), self);
  }
  return {};
}

void DatagramPort::give_up_ports() {
  for (const Address& bound : addresses_) services_.identity.remove_port(bound.ip());
  sockets_.clear();
  addresses_.clear();
}

/// Dials end now: their dialer may be the next thing to go.
std::expected<void, BindFailure> DatagramPort::hold() {
  for (Flow* const flow : unconnected()) {
    if (holds()) {
      flow->stop_dialling();
    } else {
      drop(*flow);
    }
  }
  dialer_ = nullptr;
  dial_unconnected_.disarm();
  if (!std::exchange(holding_, true)) enter(mode_without_listener());
  return {};
}

/// Another `hold` counts for who comes from now on.
void DatagramPort::configure(ForwardPortSettings settings) {
  const bool other = settings.hold != settings_.hold;
  settings_ = std::move(settings);
  if (holding_ && other) enter(mode_without_listener());
}

DatagramPort::Mode DatagramPort::mode_without_listener() const {
  if (!flows_.empty()) return Mode::Finishing;
  return holds() ? Mode::Waiting : Mode::Refusing;
}

std::expected<void, BindFailure> DatagramPort::serve(Dialer& dialer,
                                                     std::span<const ListenAddress> listeners) {
  dialer_ = &dialer;
  holding_ = false;
  for (const Family family : {Family::V4, Family::V6}) {
    candidates_[static_cast<std::size_t>(family)] = dial_order(family, listeners);
  }
  for (Flow* const flow : unconnected()) {
    flow->stop_dialling();
    dial_unconnected_.arm_now();  // in the next turn, since it may call the observer
  }
  enter(Mode::Serving);
  return {};
}

/// The observer of a refusal may end further flows, or the mode.
void DatagramPort::dial_for_unconnected() {
  for (Flow* const flow : unconnected()) {
    if (dialer_ == nullptr) return;
    if (!flow->ended() && !flow->dialling() && flow->socket() < 0) dial(*flow);
  }
}

void DatagramPort::drain(Duration) {
  dialer_ = nullptr;
  dial_unconnected_.disarm();
  mode_ = Mode::Draining;
  holding_ = false;
  drop_all();
  patience_.disarm();
  give_up_ports();
  drained_.arm_now();
}

void DatagramPort::enter(Mode mode) {
  mode_ = mode;
  patience_.disarm();
  if (mode == Mode::Finishing) patience_.arm_after(kFinish);
  for (DatagramSocket& socket : sockets_) {
    if (mode == Mode::Refusing) {
      socket.refuse();
    } else {
      socket.listen(true);
    }
  }
}

/// The first that waits makes all others wait as well: in the kernel, unread.
void DatagramPort::on_patience_over() {
  if (mode_ == Mode::Finishing) return drop_all();
  if (mode_ == Mode::Refusing) {
    return enter(dialer_ != nullptr ? Mode::Serving : mode_without_listener());
  }
  ++counters_.failed;
  enter(Mode::Refusing);
  patience_.arm_after(settings_.hold);
}

// ---- towards the target ------------------------------------------------------------------------

void DatagramPort::on_io(IoSource& source, std::uint32_t) {
  if (mode_ == Mode::Waiting) {
    for (DatagramSocket& socket : sockets_) socket.listen(false);
    return patience_.arm_after(settings_.hold);
  }
  const auto socket =
      std::ranges::find_if(sockets_, [&](const DatagramSocket& s) { return s.is(source); });
  const auto via = static_cast<std::size_t>(socket - sockets_.begin());
  for (int round = 0; round < kRoundsPerTurn && hears(); ++round) {
    const auto received = services_.context.datagrams().receive(socket->fd());
    if (!received) return;
    const bool all = received->all;
    relay_batch(via, *received);
    if (all) return;
  }
}

/// What comes from one client goes out in one call, in its order; between clients there is none.
/// A refusal is told in the end, since what follows from it may use the receiver.
void DatagramPort::relay_batch(std::size_t via, const ReceivedDatagrams& received) {
  std::optional<FlowKey> refused;
  std::array<bool, DatagramReceiver::kMessages> done{};
  for (std::size_t first = 0; first < received.messages.size(); ++first) {
    if (done[first]) continue;
    std::array<Datagrams, DatagramReceiver::kMessages> theirs;
    std::size_t count = 0;
    for (std::size_t i = first; i < received.messages.size(); ++i) {
      if (done[i] || received.ends[i] != received.ends[first]) continue;
      done[i] = true;
      theirs[count++] = received.messages[i];
    }
    Flow* flow = flow_of(via, received.ends[first]);
    if (flow == nullptr) continue;
    if (relay_to(*flow, std::span(theirs).first(count)) == ECONNREFUSED) refused = flow->key;
  }
  Flow* const flow = refused ? flows_.find(*refused) : nullptr;
  if (flow != nullptr) refused_by_target(*flow, {ECONNREFUSED, "send"});
}

Flow* DatagramPort::flow_of(std::size_t via, const Arrived& end) {
  const FlowKey client{end.from, end.at};
  Flow* flow = flows_.find(client);
  if (flow != nullptr && still_let_in(*flow)) return flow;
  if (flow != nullptr) drop(*flow);
  const bool may_wait = mode_ == Mode::Finishing && holds();
  return mode_ == Mode::Serving || may_wait ? admit(client, via) : nullptr;
}

/// Whoever had the client's port may have left it to another socket, another user's too, or to
/// nobody.
bool DatagramPort::still_let_in(Flow& flow) {
  if (now() < flow.examined + kExamineAgain) return true;
  flow.examined = now();
  return services_.identity.still_let_in(flow.key.client, talked_to(flow.key, flow.via),
                                         settings_.admission, flow.client_inode);
}

Endpoint DatagramPort::talked_to(const FlowKey& client, std::size_t via) const {
  const Endpoint& bound = sockets_[via].endpoint();
  return {client.at.value_or(bound.address), bound.port};
}

ClientVerdict DatagramPort::examine(const FlowKey& client, std::size_t via) {
  const ClientVerdict verdict =
      services_.identity.examine_sender(client.client, talked_to(client, via), settings_.admission);
  if (verdict.let_in()) return verdict;
  ++counters_.refused;
  refusals_.tell(now(), settings_.id, settings_.name, client.client, verdict);
  return verdict;
}

/// @return null for a client that is refused, for whom there is no room, or who cannot be dialled
/// for
Flow* DatagramPort::admit(const FlowKey& client, std::size_t via) {
  const ClientVerdict verdict = examine(client, via);
  if (!verdict.let_in() || unconnected_ >= kMostUnconnected) return nullptr;
  const std::size_t most = settings_.max_connections == 0 ? kMostFlows : settings_.max_connections;
  const bool room = flows_.size() < most && services_.gate.admits(*this);
  if (!room && flows_.empty()) return nullptr;
  if (!room) drop(flows_.to_evict());
  FlowObserver& self = *this;
  Flow& flow =
      flows_.add(std::make_unique<Flow>(services_.context.loop(), self, client, via), now());
  flow.examined = now();
  flow.client_inode = verdict.inode;
  ++counters_.total;
  ++unconnected_;
  counters_.active = flows_.size();
  if (mode_ == Mode::Serving) dial(flow);
  return flow.ended() ? nullptr : &flow;
}

void DatagramPort::dial(Flow& flow) {
  assert(dialer_ != nullptr);
  const Family family = flow.key.client.address.family();
  flow.dial(*dialer_, candidates_[static_cast<std::size_t>(family)],
            now() + settings_.connect_timeout);
}

std::vector<Flow*> DatagramPort::unconnected() const {
  if (unconnected_ == 0) return {};
  return flows_.all_that([](const Flow& flow) { return flow.socket() < 0; });
}

/// @return what sending failed with
int DatagramPort::relay_to(Flow& flow, std::span<const Datagrams> messages) {
  for (const Datagrams& message : messages) flow.asked += message.count();
  touch(flow);
  const DatagramsSent sent = flow.deliver(messages);
  counters_.bytes_in += sent.bytes;
  return sent.error;
}

// ---- towards the client ------------------------------------------------------------------------

void DatagramPort::on_flow_connected(Flow& flow) {
  if (std::exchange(undialable_, false)) observer_.on_target_reached(*this);
  --unconnected_;
  services_.gate.accepted(flow.socket(), *this);
  const DatagramsSent sent = flow.deliver_kept();
  counters_.bytes_in += sent.bytes;
  if (sent.error == ECONNREFUSED) refused_by_target(flow, {sent.error, "send"});
}

void DatagramPort::on_flow_failed(Flow& flow, const Error& error) {
  undialable_ = cannot_be_dialled(error);
  refused_by_target(flow, error);
}

/// Answers are not for whoever has the client's port now; the target learns that he is gone by what
/// it sends next.
void DatagramPort::on_answers(Flow& flow) {
  if (!still_let_in(flow)) return drop(flow);
  const Error error = pass_answers(flow);
  if (error.code != 0) refused_by_target(flow, error);
}

/// @return what the target's side has told by ICMP; code 0: nothing
Error DatagramPort::pass_answers(Flow& flow) {
  Error error{};
  const DatagramRoute back{flow.key.client, flow.key.at};
  for (int round = 0; round < kRoundsPerTurn; ++round) {
    const auto received = services_.context.datagrams().receive(flow.socket());
    if (!received) {
      error = received.error();
      continue;  // what came before it is still there
    }
    if (received->messages.empty()) break;
    const bool all = received->all;
    const auto sent = send_datagrams(sockets_[flow.via].fd(), received->messages, &back);
    counters_.bytes_out += sent.bytes;
    for (const Datagrams& message : received->messages) flow.answered += message.count();
    touch(flow);
    if (all) break;
  }
  return error;
}

/// Others are refused too only when none is left that was not: a server may have sockets for single
/// clients, and close one of them.
void DatagramPort::refused_by_target(Flow& flow, const Error& error) {
  log::debug("{}: {}", settings_.name, error.text());
  ++counters_.failed;
  drop(flow);
  observer_.on_target_refused(*this, error);
  if (mode_ != Mode::Serving || !flows_.empty()) return;
  enter(Mode::Refusing);
  patience_.arm_after(kRefusal);
}

// ---- flows come and go -------------------------------------------------------------------------

void DatagramPort::touch(Flow& flow) {
  flows_.touch(flow, now());
  follow_expiry();
}

void DatagramPort::follow_expiry() {
  const auto next = flows_.next_expiry();
  if (next && (!idle_.armed() || *next < idle_.when())) idle_.arm_at(*next);
}

void DatagramPort::drop_idle() {
  while (Flow* flow = flows_.expired(now())) drop(*flow);
  follow_expiry();
}

void DatagramPort::drop(Flow& flow) {
  if (flow.socket() < 0) --unconnected_;
  flow.end();
  services_.context.loop().retire(flows_.remove(flow));
  counters_.active = flows_.size();
  services_.gate.descriptor_freed();
  if (mode_ == Mode::Finishing && flows_.empty()) enter(mode_without_listener());
}

/// What the target had to say still goes out.
void DatagramPort::drop_all() {
  while (!flows_.empty()) {
    Flow& flow = flows_.any();
    if (flow.socket() >= 0 && still_let_in(flow)) (void)pass_answers(flow);
    drop(flow);
  }
}

}  // namespace portfwd
