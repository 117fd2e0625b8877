#include "forward/reverse_forward.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

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

ForwardInfo info_of(const ForwardRequest& request, WallTime since) {
  ForwardInfo info;
  info.id = request.forward_id;
  info.container_name = request.spec.container;
  info.protocol = request.spec.target.protocol();
  info.direction = Direction::Reverse;
  info.target = request.spec.target.text();
  info.container_address = kLoopbacks.front().text();
  info.container_port = request.spec.target.port_number();
  for (const IpAddress& address : kLoopbacks) info.host_addresses.push_back(address.text());
  info.host_port = request.spec.host_port.value_or(request.spec.target.port_number());
  info.origin = request.origin;
  info.state = ForwardState::Waiting;
  info.label = request.spec.label;
  info.on_auto_forward = "silent";  // nothing on the host has become reachable
  info.since = since;
  return info;
}

}  // namespace

ReverseForward::ReverseForward(const Parts& parts, ForwardRequest request,
                               const ForwardPortSettings& settings)
    : parts_(parts),
      request_(std::move(request)),
      info_(info_of(request_, parts.relay.context.loop().clock().wall())) {
  configure(settings);
  port_ = make_port();
}

std::unique_ptr<StreamPort> ReverseForward::make_port() const {
  return std::make_unique<StreamPort>(parts_.relay, settings_, parts_.ports);
}

void ReverseForward::configure(const ForwardPortSettings& settings) {
  settings_ = settings;
  settings_.admission = {.restrict_to_user = false, .allow_remote = true};
  settings_.id = info_.id;
  settings_.name = fmt::format("{}:{} (reverse)", info_.container_name, info_.container_port);
  if (port_) port_->configure(settings_);
}

/// "In" is towards the container, and here the relay's clients are inside.
ForwardInfo ReverseForward::info() const {
  ForwardInfo out = info_;
  out.counters = past_;
  add(out.counters, port_->counters());
  std::swap(out.counters.bytes_in, out.counters.bytes_out);
  if (out.state == ForwardState::Waiting) {
    out.reason = reach_ == nullptr ? "its container is not there" : "its port is being opened";
  }
  return out;
}

void ReverseForward::attach(ContainerAccess& reach) {
  reach_ = &reach;
  const Container& container = reach.container();
  info_.container_id = request_.container_id = container.id;
  info_.container_name = request_.spec.container = container.name;
  info_.container_engine = container.engine;
  auto taken = reach.listen_inside(info_.container_port, *this);
  if (!taken) return settle(ForwardState::Conflict, taken.error());
  inside_ = std::move(*taken);
}

std::unique_ptr<ForwardPort> ReverseForward::leave(Duration limit) {
  auto left = std::exchange(port_, make_port());
  add(past_, left->counters());
  past_.active = 0;
  left->drain(limit);  // closes what listens, so that nobody sees it when inside_ goes
  inside_.reset();
  reach_ = nullptr;
  request_.container_id.clear();
  info_.container_id.clear();
  info_.state = ForwardState::Waiting;
  info_.reason.clear();
  return left;
}

void ReverseForward::on_inside_port(Result<std::vector<BoundSocket>> sockets) {
  if (!sockets) return fail(sockets.error());
  if (const auto adopted = port_->adopt(std::move(*sockets)); !adopted) {
    return fail(adopted.error().error);
  }
  std::vector<ListenAddress> there;
  for (const IpAddress& address : kLoopbacks)
    there.push_back({Endpoint{address, info_.host_port}, true});
  if (const auto served = port_->serve(parts_.host, there); !served) {
    port_ = make_port();
    return fail(served.error().error);
  }
  settle(ForwardState::Active, "");
}

void ReverseForward::fail(const Error& error) {
  settle(ForwardState::Conflict, why_not(error), error.code);
}

void ReverseForward::settle(ForwardState state, const std::string& reason, int error) {
  info_.error = error;
  if (state == ForwardState::Conflict) inside_.reset();
  const bool other_state = std::exchange(info_.state, state) != state;
  const bool other_reason = std::exchange(info_.reason, reason) != reason;
  parts_.observer.on_settled(*this, other_state || other_reason);
}

std::string ReverseForward::why_not(const Error& error) const {
  if (error.code != EADDRINUSE) {
    return fmt::format("port {} can't be opened inside: {}", info_.container_port, error.text());
  }
  const auto& listeners = reach_->listeners();
  const auto holder = std::ranges::find_if(listeners, [&](const Listener& l) {
    return l.protocol == Protocol::Tcp && l.local.ip().port == info_.container_port &&
           !l.process.empty();
  });
  const std::string by = holder == listeners.end() ? "" : " by " + holder->process;
  return fmt::format("port {} is taken inside{}", info_.container_port, by);
}

}  // namespace portfwd
