
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
  if (client_.valid()) reset_on_close(client_.get());
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
                       ForwardPortObserver& observer)
    : ForwardPort(services, std::move(settings), observer),
      listener_(core_.context(), core_.gate(),
                [this](Arrival arrival) { on_client(std::move(arrival)); }),
      relay_group_{core_.counters(), [this](Relay& over) { on_relay_over(over); }},
      dial_waiting_(core_.loop(), [this] { dial_waiting(); }),
      drain_over_(core_.loop(), [this] { finish_drain(); }) {}

// ---- commands ----------------------------------------------------------------------------------

std::expected<void, BindFailure> StreamPort::hold() {
  core_.hold();
  guard_.reset();
  dial_waiting_.disarm();
  if (core_.holds_clients()) {
    for (const auto& client : waiting_) {
      const bool held = client->held() && !client->refused && !client->suspected;
      if (!held) dial_or_hold(*client);
    }
    return listener_.accept();
  }
  remove_all_clients();
  listener_.refuse();
  return {};
}

std::expected<void, BindFailure> StreamPort::serve(Dialer& dialer,
                                                   std::span<const ListenAddress> listeners) {
  core_.serve(dialer, listeners);
  guard_.reset();
  for (const auto& client : waiting_) dial_in_next_turn(*client);
  return listener_.accept();
}

void StreamPort::drain(Duration limit) {
  core_.drain();
  dial_waiting_.disarm();
  listener_.close();
  remove_all_clients();
  drain_over_.disarm();
  if (relays_.empty()) {
    drain_over_.arm_now();
  } else if (limit < Duration::max()) {
    drain_over_.arm_after(limit);
  }
}

void StreamPort::finish_drain() {
  while (!relays_.empty()) {
    relays_.last().abort();
    core_.loop().retire(relays_.remove(relays_.last()));
  }
  core_.counters().active = 0;
  core_.gate().descriptor_freed();
  core_.notify_drained();
}

PortRecord StreamPort::save() {
  PortRecord record{.counters = core_.counters(), .sockets = listener_.save()};
  for (; !waiting_.empty(); (void)waiting_.remove(waiting_.last())) {
    WaitingClient& client = waiting_.last();
    ClientRecord& saved = record.clients.emplace_back();
    saved.family = client.family();
    const bool held = client.held() && !client.refused && !client.suspected;
    if (held) saved.held_until = client.held_until();
    client.stop();
    saved.socket = ResettingFd(client.release());
  }
  for (; !relays_.empty(); (void)relays_.remove(relays_.last())) {
    record.relays.push_back(relays_.last().save());
  }
  dial_waiting_.disarm();
  drain_over_.disarm();
  return record;
}

void StreamPort::restore(PortRecord record) {
  assert(core_.phase() == PortCore::Phase::New && waiting_.empty() && relays_.empty());
  core_.counters() = record.counters;
  listener_.restore(std::move(record.sockets));
  for (ClientRecord& saved : record.clients) {
    WaitingClient& client = add_client(saved.socket.release(), saved.family);
    if (saved.held_until) client.hold(*saved.held_until);
  }
  for (RelayRecord& saved : record.relays) {
    Relay& relay =
        relays_.add(std::make_unique<Relay>(core_.context(), relay_group_, std::move(saved)));
    if (!relay.resume()) {
      ++core_.counters().failed;
      relay.abort();
      remove_relay(relay);
    }
  }
  core_.counters().active = relays_.size();
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
  if (!core_.authorize(verdict, arrival.client)) return reset_on_close(arrival.socket.get());
  ++core_.counters().total;
  LoopGuard::Step step = LoopGuard::Step::Dial;
  if (core_.serving()) {
    step = guard_.on_client(core_.now(), core_.counters().bytes_out);
    step == LoopGuard::Step::ResetBurst ? reset_loop() : dial_suspected();
  }
  if (step == LoopGuard::Step::Refuse || step == LoopGuard::Step::ResetBurst) {
    ++core_.counters().failed;
    return reset_on_close(arrival.socket.get());
  }
  WaitingClient& client =
      add_client(std::move(arrival.socket), arrival.arrived_at.address.family());
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
  std::vector<Relay*> loop;
  for (const auto& relay : relays_) {
    if (relay->burst == guard_.burst()) loop.push_back(relay.get());
  }
  log::warning("{} {}: {}; {} connections are reset", core_.settings().id, core_.settings().name,
               undialable_reason(kLeadsBack), loop.size());
  for (Relay* relay : loop) {
    relay->abort();
    remove_relay(*relay);
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
    reset_on_close(target.get());
    return remove_client(client);
  }
  guard_.on_connected(core_.now());
  Relay& relay = relays_.add(
      std::make_unique<Relay>(core_.context(), relay_group_, client.release(), std::move(target)));
  relay.burst = guard_.burst();
  relay.family = client.family();
  relay.redialled = client.redialled;
  remove_client(client);
  core_.counters().active = relays_.size();
  if (!relay.start()) {
    ++core_.counters().failed;
    relay.abort();
    remove_relay(relay);
  }
}

void StreamPort::on_dial_failed(WaitingClient& client, const Error& error) {
  core_.note_dial_failed(error);
  hold_for_redial(client, error);
}

/// For a client after the target has reset its connection, before either side sent a byte. A server
/// that closes does so with connections that it has not accepted.
void StreamPort::dial_again(UniqueFd socket, Family family, bool redialled) {
  if (core_.phase() == PortCore::Phase::Draining) return reset_on_close(socket.get());
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

/// Resets the client, unless it was released to a relay.
void StreamPort::remove_client(WaitingClient& client) {
  core_.loop().retire(waiting_.remove(client));
  core_.gate().descriptor_freed();
  update_connections();
}

/// Cancels dials at once, not after the batch: their dialer may be destroyed next.
void StreamPort::remove_all_clients() {
  while (!waiting_.empty()) {
    waiting_.last().stop();
    remove_client(waiting_.last());
  }
}

// ---- relays ------------------------------------------------------------------------------------

void StreamPort::on_relay_over(Relay& relay) {
  const bool of_the_burst = relay.burst == guard_.burst();
  UniqueFd turned_away = relay.release_turned_away();
  remove_relay(relay);
  if (turned_away.valid()) dial_again(std::move(turned_away), relay.family, relay.redialled);
  if (!of_the_burst) return;
  guard_.on_ended(core_.now());
  dial_suspected();
}

void StreamPort::remove_relay(Relay& relay) {
  core_.loop().retire(relays_.remove(relay));
  core_.counters().active = relays_.size();
  core_.gate().descriptor_freed();
  update_connections();
  if (core_.phase() == PortCore::Phase::Draining && relays_.empty()) drain_over_.arm_now();
}

void StreamPort::update_connections() {
  listener_.set_connections(waiting_.size() + relays_.size(), core_.settings().max_connections);
}

}  // namespace portfwd
