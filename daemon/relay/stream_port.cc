
#include "relay/stream_port.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "kernel/stream.h"

namespace portfwd {

namespace {

using namespace std::string_view_literals;

constexpr std::string_view kSignature = "\r\n\r\n\0\r\nQUIT\n"sv;
constexpr char kVersion2Proxy = 0x21;  ///< version 2, on behalf of another
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
  return version == ProxyProtocol::V1 ? text_header(client, host) : binary_header(client, host);
}

WaitingClient::WaitingClient(EventLoop& loop, AcceptGate& gate, UniqueFd client, Family family,
                             WaitingClientObserver& observer)
    : loop_(loop),
      claim_(gate),
      observer_(observer),
      family_(family),
      client_(std::move(client)),
      source_(loop, client_.get(), *this),
      hold_over_(loop, [this] { observer_.on_hold_over(*this); }) {}

WaitingClient::~WaitingClient() {
  if (client_.valid()) reset_on_close(client_.get());
}

/// EPOLLERR alone: a reset cannot be masked, and an empty mask would deregister.
void WaitingClient::hold(TimePoint deadline) {
  dial_.reset();
  hold_over_.arm_at(deadline);
  (void)source_.watch(EPOLLERR);  // without it a client that is gone is noticed at the deadline
}

UniqueFd WaitingClient::dial(Dialer& dialer, std::span<const Address> candidates,
                             TimePoint deadline) {
  stop();
  DialStart start = dialer.dial(candidates, deadline, *this);
  assert(start.connected.valid() == (start.attempt == nullptr));
  dial_ = std::move(start.attempt);
  return std::move(start.connected);
}

void WaitingClient::stop() {
  hold_over_.disarm();
  source_.disarm();
  dial_.reset();
}

UniqueFd WaitingClient::release() {
  hold_over_.disarm();
  source_.disarm();
  return std::move(client_);
}

void WaitingClient::on_io(IoSource&, std::uint32_t) {
  source_.disarm();
  gone_ = true;
  observer_.on_hold_over(*this);
}

void WaitingClient::on_dialled(Result<UniqueFd> connected) {
  loop_.retire(std::move(dial_));  // which is what calls
  if (connected) {
    observer_.on_connected(*this, std::move(*connected));
  } else {
    observer_.on_dial_failed(*this, connected.error());
  }
}

StreamPort::StreamPort(const RelayServices& services, ForwardPortSettings settings,
                       ForwardPortObserver& observer)
    : services_(services),
      settings_(std::move(settings)),
      observer_(observer),
      listener_(services.context, services.gate, *this),
      relay_group_{counters_, [this](Relay& relay) { on_relay_over(relay); }},
      dial_waiting_(services.context.loop(), [this] { dial_for_waiting(); }),
      drain_over_(services.context.loop(), [this] { finish_drain(); }) {}

StreamPort::~StreamPort() = default;

std::expected<void, BindFailure> StreamPort::bind(std::span<const Address> addresses) {
  return listener_.bind(addresses);
}

std::expected<void, BindFailure> StreamPort::hold() {
  mode_ = Mode::Holding;
  dialer_ = nullptr;
  guard_.reset();
  dial_waiting_.disarm();
  if (settings_.hold > Duration::zero()) {
    for (const auto& client : waiting_) {
      const bool held = client->held() && !client->refused && !client->suspected;
      if (!held) dial_or_hold(*client);
    }
    return start_accepting();
  }
  dismiss_all();
  listener_.refuse();
  return {};
}

std::expected<void, BindFailure> StreamPort::serve(Dialer& dialer,
                                                   std::span<const ListenAddress> listeners) {
  mode_ = Mode::Serving;
  dialer_ = &dialer;
  guard_.reset();
  for (const Family family : {Family::V4, Family::V6}) {
    candidates_[static_cast<std::size_t>(family)] = dial_order(family, listeners);
  }
  for (const auto& client : waiting_) dial_soon(*client);
  return start_accepting();
}

void StreamPort::drain(Duration limit) {
  mode_ = Mode::Draining;
  dialer_ = nullptr;
  dial_waiting_.disarm();
  listener_.close();
  dismiss_all();
  drain_over_.disarm();
  if (relays_.empty()) {
    drain_over_.arm_now();
  } else if (limit < Duration::max()) {
    drain_over_.arm_after(limit);
  }
}

void StreamPort::configure(ForwardPortSettings settings) {
  settings_ = std::move(settings);
  observe_limit();
}

std::expected<void, BindFailure> StreamPort::start_accepting() {
  if (listener_.accepting()) return {};
  return listener_.accept();
}

void StreamPort::on_client(Arrival arrival) {
  if (!let_in(arrival)) return reset_on_close(arrival.socket.get());
  ++counters_.total;
  const LoopGuard::Step step = mode_ == Mode::Serving ? ask_guard() : LoopGuard::Step::Dial;
  if (step == LoopGuard::Step::Refuse) {
    ++counters_.failed;
    return reset_on_close(arrival.socket.get());
  }
  WaitingClient& client =
      add_waiting(std::move(arrival.socket), arrival.arrived_at.address.family());
  if (step == LoopGuard::Step::Hold) {
    client.suspected = suspects_ = true;
    client.hold(guard_.held_until());
  } else {
    dial_or_hold(client);
  }
  observe_limit();
}

WaitingClient& StreamPort::add_waiting(UniqueFd client, Family family) {
  WaitingClientObserver& self = *this;
  return waiting_.add(std::make_unique<WaitingClient>(services_.context.loop(), services_.gate,
                                                      std::move(client), family, self));
}

LoopGuard::Step StreamPort::ask_guard() {
  const LoopGuard::Step step =
      guard_.on_client(services_.context.loop().now(), counters_.bytes_out);
  if (step == LoopGuard::Step::Cut) {
    cut_loop();
    return LoopGuard::Step::Refuse;
  }
  dial_suspects();
  return step;
}

/// Once the guard holds them no more.
void StreamPort::dial_suspects() {
  if (!suspects_ || guard_.holding()) return;
  suspects_ = false;
  for (const auto& client : waiting_) {
    if (client->suspected) dial_soon(*client);
  }
}

void StreamPort::cut_loop() {
  std::vector<Relay*> loop;
  for (const auto& relay : relays_) {
    if (relay->burst == guard_.burst()) loop.push_back(relay.get());
  }
  log::warning("{} {}: {}; {} connections are reset", settings_.id, settings_.name,
               why_undialable(kLeadsBack), loop.size());
  for (Relay* relay : loop) {
    relay->abort();
    drop_relay(*relay);
  }
  undialable_ = true;
  observer_.on_target_refused(*this, kLeadsBack);
}

bool StreamPort::let_in(const Arrival& arrival) {
  const ClientVerdict verdict = services_.identity.examine(arrival.socket.get(), arrival.client,
                                                           arrival.arrived_at, settings_.admission);
  if (verdict.let_in()) return true;
  ++counters_.refused;
  refusals_.tell(services_.context.loop().now(), settings_.id, settings_.name, arrival.client,
                 verdict);
  return false;
}

/// Dials or holds, as the mode says. Dialled, the client may be connected and removed on return.
void StreamPort::dial_or_hold(WaitingClient& client) {
  client.refused = client.redialled = client.suspected = false;
  if (mode_ == Mode::Serving) return dial(client);
  client.hold(services_.context.loop().now() + settings_.hold);
}

void StreamPort::dial(WaitingClient& client) {
  assert(mode_ == Mode::Serving && dialer_ != nullptr);
  const auto& candidates = candidates_[static_cast<std::size_t>(client.family())];
  const TimePoint deadline = services_.context.loop().now() + settings_.connect_timeout;
  UniqueFd target = client.dial(*dialer_, candidates, deadline);
  if (target.valid()) on_connected(client, std::move(target));
}

/// Dials in the next turn: a call of the port must not call the observer, and a walk over waiting_
/// must not change it. A dial under way ends now, since its dialer may be destroyed next.
void StreamPort::dial_soon(WaitingClient& client) {
  assert(mode_ == Mode::Serving);
  client.stop();
  client.refused = client.redialled = client.suspected = false;
  dial_waiting_.arm_now();
}

/// From the last to the first: a client that is connected at once is removed from waiting_, where
/// the last one takes its place.
void StreamPort::dial_for_waiting() {
  for (std::size_t i = waiting_.size(); i-- > 0;) {
    WaitingClient& client = waiting_[i];
    if (!client.held() && !client.dialling()) dial(client);
  }
}

/// Before anything else the target learns whose connection it is. The header is sent whole, in one
/// call on a socket that has sent nothing, or else the connection is good for nothing.
bool StreamPort::introduce(int client, int target) const {
  if (settings_.proxy_protocol == ProxyProtocol::Off) return true;
  const auto from = peer_endpoint(client);
  const auto to = local_endpoint(client);
  if (!from || !to) return false;  // it has reset the connection meanwhile
  const std::string header = proxy_header(settings_.proxy_protocol, *from, *to);
  return send_some(target, std::as_bytes(std::span(header))).bytes == header.size();
}

void StreamPort::on_connected(WaitingClient& client, UniqueFd target) {
  if (undialable_ && !guard_.found()) {
    undialable_ = false;
    observer_.on_target_reached(*this);
  }
  if (!introduce(client.socket(), target.get())) {
    ++counters_.failed;
    reset_on_close(target.get());
    return dismiss(client);
  }
  guard_.on_connected(services_.context.loop().now());
  Relay& relay = relays_.add(std::make_unique<Relay>(services_.context, relay_group_,
                                                     client.release(), std::move(target)));
  relay.burst = guard_.burst();
  relay.family = client.family();
  relay.redialled = client.redialled;
  dismiss(client);
  counters_.active = relays_.size();
  if (!relay.start()) {
    ++counters_.failed;
    relay.abort();
    drop_relay(relay);
  }
}

/// A listener that closes refuses, or resets whom it had not accepted, before anybody here knows of
/// its end; nothing was sent through either. So its client waits for a second look: by then hold()
/// or serve() was called, if something has changed and was seen to; else it is dialled for once
/// more, since a server may be back before anybody has seen it go.
void StreamPort::on_dial_failed(WaitingClient& client, const Error& error) {
  log::debug("{}: {}", settings_.name, error.text());
  undialable_ = cannot_be_dialled(error);
  wait_for_second_look(client, error);
  observer_.on_target_refused(*this, error);
}

/// Does the same for a client whose relay the target has reset before either side sent a byte.
void StreamPort::on_turned_away(UniqueFd socket, Family family, bool redialled) {
  if (mode_ == Mode::Draining) return reset_on_close(socket.get());
  const Error error{ECONNRESET, "connect"};
  WaitingClient& client = add_waiting(std::move(socket), family);
  client.redialled = redialled;
  if (mode_ == Mode::Holding && settings_.hold > Duration::zero()) return dial_or_hold(client);
  wait_for_second_look(client, error);
  observer_.on_target_refused(*this, error);
}

void StreamPort::wait_for_second_look(WaitingClient& client, const Error& error) {
  const bool turned_away = error.code == ECONNREFUSED || error.code == ECONNRESET;
  if (turned_away && !client.redialled && settings_.hold > Duration::zero()) {
    client.refused = true;
    client.hold(services_.context.loop().now() + std::min(kSecondLook, settings_.hold));
  } else {
    ++counters_.failed;
    dismiss(client);
  }
}

void StreamPort::on_hold_over(WaitingClient& client) {
  if (client.suspected) {
    if (client.gone()) {
      dismiss(client);
      guard_.on_ended(services_.context.loop().now());
    } else {
      guard_.on_hold_over();
    }
    return dial_suspects();
  }
  if (client.refused && !client.gone() && mode_ == Mode::Serving) {
    client.refused = false;
    client.redialled = true;
    return dial(client);
  }
  if (client.refused) ++counters_.failed;
  dismiss(client);
}

void StreamPort::on_relay_over(Relay& relay) {
  const bool of_the_burst = relay.burst == guard_.burst();
  UniqueFd turned_away = relay.take_turned_away();
  drop_relay(relay);
  if (turned_away.valid()) on_turned_away(std::move(turned_away), relay.family, relay.redialled);
  if (!of_the_burst) return;
  guard_.on_ended(services_.context.loop().now());
  dial_suspects();
}

/// Resets the client, unless a relay has it now.
void StreamPort::dismiss(WaitingClient& client) {
  services_.context.loop().retire(waiting_.remove(client));
  connection_ended();
}

/// Dials end now, not with the batch: their dialer may be the next thing to go.
void StreamPort::dismiss_all() {
  while (!waiting_.empty()) {
    waiting_.last().stop();
    dismiss(waiting_.last());
  }
}

void StreamPort::drop_relay(Relay& relay) {
  services_.context.loop().retire(relays_.remove(relay));
  counters_.active = relays_.size();
  connection_ended();
  if (mode_ == Mode::Draining && relays_.empty()) drain_over_.arm_now();
}

void StreamPort::connection_ended() {
  services_.gate.descriptor_freed();
  observe_limit();
}

void StreamPort::observe_limit() {
  listener_.pause(settings_.max_connections != 0 && connections() >= settings_.max_connections);
}

void StreamPort::finish_drain() {
  while (!relays_.empty()) {
    relays_.last().abort();
    services_.context.loop().retire(relays_.remove(relays_.last()));
  }
  counters_.active = 0;
  services_.gate.descriptor_freed();
  observer_.on_drained(*this);
}

}  // namespace portfwd
