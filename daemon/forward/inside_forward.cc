#include "forward/inside_forward.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>

namespace portfwd {

namespace {

constexpr std::array kLoopbacks{IpAddress::loopback(Family::V4), IpAddress::loopback(Family::V6)};

void add(Counters& sum, const Counters& more) {
  sum.active += more.active;
  sum.total += more.total;
  sum.failed += more.failed;
  sum.bytes_in += more.bytes_in;
  sum.bytes_out += more.bytes_out;
}

}  // namespace

InsideForward::InsideForward(const RelayServices& relay, ForwardObserver& observer, std::string id,
                             ForwardKey key, Origin origin, Dialer& host, Port host_port)
    : Forward(relay, observer, std::move(id), std::move(key), origin), host_(host) {
  assert(key_.direction == Direction::Reverse && protocol() == Protocol::Tcp && host_port != 0);
  info_.container_address = kLoopbacks.front().text();
  for (const IpAddress& address : kLoopbacks) info_.host_addresses.push_back(address.text());
  info_.host_port = host_port;
  port_ = make_port();
}

std::unique_ptr<ForwardPort> InsideForward::make_port() const {
  return std::make_unique<StreamPort>(relay_, settings_, observer_);
}

ForwardPortSettings InsideForward::adapted(ForwardPortSettings settings) const {
  settings.admission = {.restrict_to_user = false, .allow_remote = true};
  settings.proxy_protocol = ProxyProtocol::Off;
  return settings;
}

/// The relay's clients are inside.
Counters InsideForward::counters() const {
  Counters out = past_;
  add(out, port_->counters());
  std::swap(out.bytes_in, out.bytes_out);
  return out;
}

ForwardInfo InsideForward::info() const {
  assert(port_ != nullptr);  // not after withdraw()
  ForwardInfo out = info_;
  out.counters = counters();
  if (out.state == ForwardState::Waiting) {
    out.reason = access_ == nullptr ? "its container is not there" : "its port is being opened";
  }
  return out;
}

bool InsideForward::update(ContainerAccess& access, const std::vector<Listener>&, Duration) {
  assert(access_ == nullptr || access_ == &access);
  if (inside_ != nullptr || access.state() != ContainerState::Watched) return false;
  const bool first = std::exchange(access_, &access) == nullptr;
  auto taken = access.listen_inside(info_.container_port, *this);
  if (taken) {
    inside_ = std::move(*taken);
  } else {
    settle(ForwardState::Conflict, taken.error());
  }
  return first;
}

std::unique_ptr<ForwardPort> InsideForward::leave_container(Duration) {
  auto left = std::exchange(port_, make_port());
  add(past_, left->counters());
  past_.active = 0;
  left->drain(Duration::zero());  // closes what listens, so that nobody sees it when inside_ goes
  inside_.reset();
  access_ = nullptr;
  info_.state = ForwardState::Waiting;
  info_.reason.clear();
  return left;
}

std::unique_ptr<ForwardPort> InsideForward::withdraw(Duration drain) {
  assert(port_ != nullptr);
  port_->drain(drain);
  inside_.reset();
  return std::move(port_);
}

void InsideForward::on_inside_port(Result<std::vector<BoundSocket>> sockets) {
  if (!sockets) return fail(sockets.error());
  if (const auto adopted = stream().adopt(std::move(*sockets)); !adopted) {
    return fail(adopted.error().error);
  }
  std::vector<ListenAddress> there;
  for (const IpAddress& address : kLoopbacks) {
    there.push_back({Endpoint{address, info_.host_port}, true});
  }
  if (const auto served = port_->serve(host_, there); !served) {
    port_ = make_port();
    return fail(served.error().error);
  }
  settle(ForwardState::Active, "");
}

void InsideForward::fail(const Error& error) {
  settle(ForwardState::Conflict, why_not(error), error.code);
}

void InsideForward::settle(ForwardState state, const std::string& reason, int error) {
  info_.error = error;
  if (state == ForwardState::Conflict) inside_.reset();
  const bool other_state = enter(state);
  const bool other_reason = std::exchange(info_.reason, reason) != reason;
  observer_.on_listening_settled(*this, other_state || other_reason);
}

std::string InsideForward::why_not(const Error& error) const {
  if (error.code != EADDRINUSE) {
    return fmt::format("cannot open port {} inside: {}", info_.container_port, error.text());
  }
  const auto& listeners = access_->listeners();
  const auto holder = std::ranges::find_if(listeners, [&](const Listener& l) {
    return l.target() == key_.target && !l.process.empty();
  });
  const std::string by = holder == listeners.end() ? "" : " by " + holder->process.str();
  return fmt::format("port {} is taken inside{}", info_.container_port, by);
}

}  // namespace portfwd
