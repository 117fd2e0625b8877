
#include "relay/stream_port.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "kernel/stream.h"
#include "relay/port_record.h"

namespace portfwd {

namespace {

using namespace std::string_view_literals;

constexpr std::string_view kSignature = "\r\n\r\n\0\r\nQUIT\n"sv;
constexpr char kVersion2Proxy = 0x21;  ///< version 2, command PROXY
constexpr char kTcpOverV4 = 0x11;
constexpr char kTcpOverV6 = 0x21;

std::string text_header(const Endpoint& client, const Endpoint& host) {
  return fmt::format("PROXY TCP{} {} {} {} {}\r\n", client.address.family() == Family::V4 ? 4 : 6,
                     client.address.text(), host.address.text(), client.port, host.port);
}

std::string network_order(std::size_t number) {
  return {static_cast<char>(number >> 8), static_cast<char>(number & 0xff)};
}

std::string network_order(const IpAddress& address) {
  return {address.data(), address.data() + address.size()};
}

std::string binary_header(const Endpoint& client, const Endpoint& host) {
  const std::string addresses = network_order(client.address) + network_order(host.address) +
                                network_order(client.port) + network_order(host.port);
  std::string header(kSignature);
  header += kVersion2Proxy;
  header += client.address.family() == Family::V4 ? kTcpOverV4 : kTcpOverV6;
  return header + network_order(addresses.size()) + addresses;
}

}  // namespace

std::string proxy_header(ProxyProtocol version, const Endpoint& client, const Endpoint& host) {
  assert(version != ProxyProtocol::Off && client.address.family() == host.address.family());
  return version == ProxyProtocol::V1 ? text_header(client, host) : binary_header(client, host);
}

namespace {

/// Sends the complete header in one call, on a socket that has sent nothing. A connection that does
/// not accept all of it cannot be used. @return whether the header was sent or is not configured
bool send_proxy_header(ProxyProtocol version, int client, int target) {
  if (version == ProxyProtocol::Off) return true;
  const auto from = peer_endpoint(client);
  const auto to = local_endpoint(client);
  if (!from || !to) return false;  // the client has reset the connection meanwhile
  const std::string header = proxy_header(version, *from, *to);
  return send_some(target, std::as_bytes(std::span(header))).bytes == header.size();
}

/// Of a client that arrived there; a Unix client counts as one of IPv4.
Family family_of(const Address& arrived_at) {
  const auto* const ip = std::get_if<Endpoint>(&arrived_at);
  return ip == nullptr ? Family::V4 : ip->address.family();
}

}  // namespace

WaitingClient::WaitingClient(StreamPort& port, PortCore& core, UniqueFd client, Family family)
    : port_(port),
      core_(core),
      claim_(core.gate()),
      family_(family),
      client_(std::move(client)),
      source_(core.loop(), client_.get(), *this),
      hold_over_(core.loop(), [this] { port_.on_hold_over(*this); }) {
  assert(client_.valid());
}

WaitingClient::~WaitingClient() {
  assert(!client_.valid());
}

/// Watches for EPOLLERR alone, that is for a reset; an empty mask would deregister.
void WaitingClient::hold(TimePoint deadline) {
  assert(client_.valid());
  dial_.reset();
  hold_over_.arm_at(deadline);
  (void)source_.watch(EPOLLERR);  // if it fails, a reset is noticed at the deadline
}

UniqueFd WaitingClient::dial() {
  assert(client_.valid());
  stop();
  DialStart start = core_.dial(family_, *this);
  dial_ = std::move(start.attempt);
  return std::move(start.connected);
}

void WaitingClient::stop() {
  hold_over_.disarm();
  source_.disarm();
  dial_.reset();
}

UniqueFd WaitingClient::release() {
  assert(client_.valid() && !dialling());
  hold_over_.disarm();
  source_.disarm();
  return std::move(client_);
}

void WaitingClient::on_io(IoSource&, std::uint32_t) {
  source_.disarm();
  was_reset_ = true;
  port_.on_hold_over(*this);
}

void WaitingClient::on_dialled(Result<UniqueFd> connected) {
  assert(dialling());
  core_.loop().retire(std::move(dial_));  // not destroyed: it is the caller
  if (connected) {
    port_.on_connected(*this, std::move(*connected));
  } else {
    port_.on_dial_failed(*this, connected.error());
  }
}

StreamPort::StreamPort(const RelayServices& services, ForwardPortSettings settings,
                       ForwardPortObserver& observer, Protocol listens)
    : ForwardPort(services, std::move(settings), observer),
      listens_(listens),
      listener_(make_listener(listens)),
      local_carrier_(std::make_shared<LocalCarrier>(core_.context())),
      relay_group_{core_.counters(), [this](RelayedConnection& over) { on_connection_over(over); }},
      dial_waiting_(core_.loop(), [this] { dial_waiting(); }),
      drain_over_(core_.loop(), [this] { finish_drain(); }) {}

std::unique_ptr<StreamListener> StreamPort::make_listener(Protocol listens) {
  StreamListener::OnClient arrived = [this](Arrival arrival) { on_client(std::move(arrival)); };
  if (listens == Protocol::Tcp) {
    return std::make_unique<TcpListener>(core_.context(), core_.gate(), std::move(arrived));
  }
  assert(listens == Protocol::Unix);
  return std::make_unique<UnixListener>(
      core_.context(), core_.gate(), std::move(arrived),
      [this](UniqueFd socket) { carrier()->discard(std::move(socket)); },
      [this](const BindFailure& failure) { core_.notify_lost(failure); });
}

StreamPort::~StreamPort() {
  for (const auto& client : waiting_) discard(*client);
  listener_->close();
}

std::shared_ptr<Carrier> StreamPort::carrier() const {
  const bool with_unix = listens_ == Protocol::Unix || core_.dials_unix();
  return with_unix ? core_.unix_carrier() : local_carrier_;
}

// ---- commands ----------------------------------------------------------------------------------

std::expected<void, BindFailure> StreamPort::bind(std::span<const Address> addresses) {
  auto bound = bind_together(Protocol::Tcp, addresses);
  if (!bound) return std::unexpected(bound.error());
  return adopt(std::move(*bound));
}

std::expected<void, BindFailure> StreamPort::hold() {
  core_.hold();
  guard_.reset();
  dial_waiting_.disarm();
  if (core_.holds_clients()) {
    for (const auto& client : waiting_) {
      const bool held = client->held() && !client->refused && !client->suspected;
      if (!held) dial_or_hold(*client);
    }
    return listener_->accept();
  }
  remove_all_clients();
  listener_->refuse();
  return {};
}

std::expected<void, BindFailure> StreamPort::serve(Dialer& dialer,
                                                   std::span<const ListenAddress> listeners) {
  core_.serve(dialer, listeners);
  guard_.reset();
  for (const auto& client : waiting_) dial_in_next_turn(*client);
  return listener_->accept();
}

void StreamPort::drain(Duration limit) {
  core_.drain();
  dial_waiting_.disarm();
  listener_->close();
  remove_all_clients();
  drain_over_.disarm();
  if (connections_.empty()) {
    drain_over_.arm_now();
  } else if (limit < Duration::max()) {
    drain_over_.arm_after(limit);
  }
}

void StreamPort::finish_drain() {
  while (!connections_.empty()) {
    connections_.last().abort();
    core_.loop().retire(connections_.remove(connections_.last()));
  }
  core_.counters().active = 0;
  core_.gate().descriptor_freed();
  core_.notify_drained();
}

PortRecord StreamPort::save() {
  PortRecord record{.counters = core_.counters(), .sockets = listener_->save()};
  for (; !waiting_.empty(); (void)waiting_.remove(waiting_.last())) {
    WaitingClient& client = waiting_.last();
    ClientRecord& saved = record.clients.emplace_back();
    saved.family = client.family();
    const bool held = client.held() && !client.refused && !client.suspected;
    if (held) saved.held_until = client.held_until();
    client.stop();
    saved.socket = ResettingFd(client.release());
  }
  for (; !connections_.empty(); (void)connections_.remove(connections_.last())) {
    if (auto relay = connections_.last().save()) record.relays.push_back(std::move(*relay));
  }
  dial_waiting_.disarm();
  drain_over_.disarm();
  return record;
}

void StreamPort::restore(PortRecord record) {
  assert(core_.phase() == PortCore::Phase::New && waiting_.empty() && connections_.empty());
  core_.counters() = record.counters;
  listener_->restore(std::move(record.sockets));
  for (ClientRecord& saved : record.clients) {
    WaitingClient& client = add_client(saved.socket.release(), saved.family);
    if (saved.held_until) client.hold(*saved.held_until);
  }
  for (RelayRecord& saved : record.relays) {
    auto relay = std::make_unique<Relay>(core_.context(), relay_group_, std::move(saved));
    Relay& resumed = *relay;
    connections_.add(std::move(relay));
    if (!resumed.resume()) {
      ++core_.counters().failed;
      resumed.abort();
      remove_connection(resumed);
    }
  }
  core_.counters().active = connections_.size();
  update_connections();
}

void StreamPort::configure(ForwardPortSettings settings) {
  core_.set_settings(std::move(settings));
  update_connections();
}

// ---- clients that connect ----------------------------------------------------------------------

void StreamPort::on_client(Arrival arrival) {
  const ClientVerdict verdict = core_.identity().examine(
      arrival.socket.get(), arrival.client, arrival.arrived_at, core_.settings().admission);
  if (!core_.authorize(verdict, arrival.client))
    return carrier()->discard(std::move(arrival.socket));
  ++core_.counters().total;
  LoopGuard::Step step = LoopGuard::Step::Dial;
  if (core_.serving()) {
    step = guard_.on_client(core_.now(), core_.counters().bytes_out);
    step == LoopGuard::Step::ResetBurst ? reset_loop() : dial_suspected();
  }
  if (step == LoopGuard::Step::Refuse || step == LoopGuard::Step::ResetBurst) {
    ++core_.counters().failed;
    return carrier()->discard(std::move(arrival.socket));
  }
  WaitingClient& client = add_client(std::move(arrival.socket), family_of(arrival.arrived_at));
  if (step == LoopGuard::Step::Hold) {
    client.suspected = guard_may_hold_ = true;
    client.hold(guard_.held_until());
  } else {
    dial_or_hold(client);
  }
}

WaitingClient& StreamPort::add_client(UniqueFd client, Family family) {
  WaitingClient& added =
      waiting_.add(std::make_unique<WaitingClient>(*this, core_, std::move(client), family));
  update_connections();
  return added;
}

/// Dials for clients that the guard held, if it no longer holds clients.
void StreamPort::dial_suspected() {
  if (!guard_may_hold_ || guard_.holding()) return;
  guard_may_hold_ = false;
  for (const auto& client : waiting_) {
    if (client->suspected) dial_in_next_turn(*client);
  }
}

void StreamPort::reset_loop() {
  std::vector<RelayedConnection*> loop;
  for (const auto& connection : connections_) {
    if (connection->burst == guard_.burst()) loop.push_back(connection.get());
  }
  log::warning("{} {}: {}; {} connections are reset", core_.settings().id, core_.settings().name,
               undialable_reason(kLeadsBack), loop.size());
  for (RelayedConnection* connection : loop) {
    connection->abort();
    remove_connection(*connection);
  }
  core_.note_dial_failed(kLeadsBack);
  core_.notify_refused(kLeadsBack);
}

// ---- clients that wait -------------------------------------------------------------------------

/// Dials or holds, depending on the phase. After a dial, the client may have been connected and
/// removed.
void StreamPort::dial_or_hold(WaitingClient& client) {
  client.refused = client.redialled = client.suspected = false;
  if (core_.serving()) return dial(client);
  client.hold(core_.now() + core_.settings().hold);
}

void StreamPort::dial(WaitingClient& client) {
  UniqueFd target = client.dial();
  if (target.valid()) on_connected(client, std::move(target));
}

/// For callers that must not call the observer, or that iterate over waiting_, which a dial may
/// change. A dial under way is cancelled now, since its dialer may be destroyed next.
void StreamPort::dial_in_next_turn(WaitingClient& client) {
  assert(core_.serving());
  client.stop();
  client.refused = client.redialled = client.suspected = false;
  dial_waiting_.arm_now();
}

/// Iterates from the last to the first: a client that is connected at once is removed from
/// waiting_, where the last one takes its place.
void StreamPort::dial_waiting() {
  for (std::size_t i = waiting_.size(); i-- > 0;) {
    WaitingClient& client = waiting_[i];
    if (!client.held() && !client.dialling()) dial(client);
  }
}

void StreamPort::on_connected(WaitingClient& client, UniqueFd target) {
  if (!guard_.found()) core_.notify_reached();
  if (!send_proxy_header(core_.settings().proxy_protocol, client.socket(), target.get())) {
    ++core_.counters().failed;
    carrier()->discard(std::move(target));
    return remove_client(client);
  }
  guard_.on_connected(core_.now());
  RelayedConnection& connection = connections_.add(carrier()->carry(
      relay_group_, client.release(), std::move(target), {.pass_fds = core_.settings().pass_fds}));
  connection.burst = guard_.burst();
  connection.family = client.family();
  connection.redialled = client.redialled;
  remove_client(client);
  core_.counters().active = connections_.size();
  if (!connection.start()) {
    ++core_.counters().failed;
    connection.abort();
    remove_connection(connection);
  }
}

void StreamPort::on_dial_failed(WaitingClient& client, const Error& error) {
  core_.note_dial_failed(error);
  hold_for_redial(client, error);
}

/// For a client after the target has reset its connection, before either side sent a byte. A server
/// that closes does so with connections that it has not accepted.
void StreamPort::dial_again(UniqueFd socket, Family family, bool redialled) {
  if (core_.phase() == PortCore::Phase::Draining) return carrier()->discard(std::move(socket));
  WaitingClient& client = add_client(std::move(socket), family);
  client.redialled = redialled;
  if (!core_.serving() && core_.holds_clients()) return dial_or_hold(client);
  hold_for_redial(client, {ECONNRESET, "connect"});
}

/// Holds a client for a second dial if the target has refused it for the first time; otherwise
/// resets it. Notifies the observer.
void StreamPort::hold_for_redial(WaitingClient& client, const Error& error) {
  const bool turned_away = error.code == ECONNREFUSED || error.code == ECONNRESET;
  if (turned_away && !client.redialled && core_.holds_clients()) {
    client.refused = true;
    client.hold(core_.now() + std::min(kRedialDelay, core_.settings().hold));
  } else {
    ++core_.counters().failed;
    remove_client(client);
  }
  core_.notify_refused(error);
}

void StreamPort::on_hold_over(WaitingClient& client) {
  if (client.suspected) {
    if (client.was_reset()) {
      remove_client(client);
      guard_.on_ended(core_.now());
    } else {
      guard_.on_hold_over();
    }
    return dial_suspected();
  }
  if (client.refused && !client.was_reset() && core_.serving()) {
    client.refused = false;
    client.redialled = true;
    return dial(client);
  }
  if (client.refused || !client.was_reset()) ++core_.counters().failed;
  remove_client(client);
}

void StreamPort::discard(WaitingClient& client) {
  client.stop();
  if (client.socket() >= 0) carrier()->discard(client.release());
}

/// Discards the client, unless it was released to a connection. Cancels a dial at once, not after
/// the batch: its dialer may be destroyed next.
void StreamPort::remove_client(WaitingClient& client) {
  discard(client);
  core_.loop().retire(waiting_.remove(client));
  core_.gate().descriptor_freed();
  update_connections();
}

void StreamPort::remove_all_clients() {
  while (!waiting_.empty()) remove_client(waiting_.last());
}

// ---- connections -------------------------------------------------------------------------------

void StreamPort::on_connection_over(RelayedConnection& over) {
  const bool of_the_burst = over.burst == guard_.burst();
  UniqueFd turned_away = over.release_turned_away();
  remove_connection(over);
  if (turned_away.valid()) dial_again(std::move(turned_away), over.family, over.redialled);
  if (!of_the_burst) return;
  guard_.on_ended(core_.now());
  dial_suspected();
}

void StreamPort::remove_connection(RelayedConnection& connection) {
  core_.loop().retire(connections_.remove(connection));
  core_.counters().active = connections_.size();
  core_.gate().descriptor_freed();
  update_connections();
  if (core_.phase() == PortCore::Phase::Draining && connections_.empty()) drain_over_.arm_now();
}

void StreamPort::update_connections() {
  listener_->set_connections(waiting_.size() + connections_.size(),
                             core_.settings().max_connections);
}

}  // namespace portfwd
