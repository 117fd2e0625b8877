#include "forward/host_forward.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "base/descriptors.h"

namespace portfwd {

namespace {

constexpr std::size_t kFailuresKept = 16;
constexpr Duration kLastLook = std::chrono::milliseconds(250);  ///< so long a look is waited for
constexpr std::string_view kNoContainer = "its container is not there";
constexpr std::string_view kNoListener = "nothing listens on it yet";

/// Two reasons, each of which may be "".
std::string both(std::string_view first, std::string_view second) {
  return fmt::format("{}{}{}", first, first.empty() || second.empty() ? "" : "; ", second);
}

}  // namespace

HostForward::HostForward(const RelayServices& relay, ForwardObserver& observer, std::string id,
                         ForwardKey key, Origin origin)
    : Forward(relay, observer, std::move(id), std::move(key), origin),
      linger_(relay.context.loop(), [this] { observer_.on_linger_over(*this); }) {
  assert(key_.direction == Direction::In);
  port_ = make_port();
}

std::unique_ptr<ForwardPort> HostForward::make_port() {
  return make_forward_port(protocol(), relay_, settings_, observer_);
}

ForwardInfo HostForward::info() const {
  assert(port_ != nullptr);  // not after withdraw()
  ForwardInfo out = info_;
  out.counters = counters();
  if (out.state == ForwardState::Waiting) {
    out.reason = both(out.container_id.empty() ? kNoContainer : kNoListener, out.reason);
  }
  if (out.state == ForwardState::Active && undialable_) {
    out.state = ForwardState::Waiting;
    out.error = undialable_->code;
    out.reason = both(why_undialable(*undialable_), out.reason);
  }
  const std::string trouble = relay_.identity.trouble(protocol());
  if (!trouble.empty() && settings_.admission.restrict_to_user) {
    out.reason = both(out.reason, trouble);
  }
  return out;
}

bool HostForward::holds(const Address& wanted) const {
  const Endpoint& endpoint = wanted.ip();
  return std::ranges::any_of(port_->addresses(), [&](const Address& address) {
    const Endpoint& ours = address.ip();
    const bool overlap =
        ours.address == endpoint.address || ours.address.is_any() || endpoint.address.is_any();
    return ours.port == endpoint.port && overlap;
  });
}

/// None for UDP: the scheme is that of a web server.
std::string HostForward::url() const {
  if (protocol() == Protocol::Udp || port_->addresses().empty()) return "";
  Endpoint at = port_->addresses().front().ip();
  if (at.address.is_any()) at.address = IpAddress::loopback(at.address.family());
  return fmt::format("{}://{}/", treatment_.scheme, at.text());
}

std::expected<void, BindFailure> HostForward::bind(const std::vector<IpAddress>& addresses,
                                                   Port port) {
  assert(!addresses.empty() && port != 0);
  tried_ = addresses;
  std::vector<Address> endpoints;
  for (const IpAddress& address : addresses) endpoints.push_back(Endpoint{address, port});
  auto bound = port_->bind(endpoints);
  if (!bound) {
    note_failure(bound.error());
    return bound;
  }
  info_.host_addresses.clear();
  for (const Address& address : port_->addresses()) {
    info_.host_addresses.push_back(address.ip().address.text());
  }
  info_.host_port = port;
  info_.error = 0;
  info_.url = url();
  info_.state = ForwardState::Waiting;
  return bound;
}

void HostForward::note_failure(const BindFailure& failure) {
  if (failures_.size() < kFailuresKept) failures_.push_back(failure);
}

void HostForward::mark_conflict(std::string reason, std::optional<int> error) {
  info_.reason = std::move(reason);
  info_.state = ForwardState::Conflict;
  const auto shortage = std::ranges::find_if(
      failures_, [](const BindFailure& f) { return is_descriptor_shortage(f.error); });
  const auto decisive = shortage != failures_.end() ? shortage : failures_.begin();
  info_.error = error.value_or(decisive != failures_.end() ? decisive->error.code : 0);
}

/// Somebody else got hold of the port between bind and listen: the table tries another one.
bool HostForward::lose_port(const BindFailure& failure) {
  mark_conflict(fmt::format("{}: {}", failure.address.text(), failure.error.text()));
  info_.error = failure.error.code;
  port_ = make_port();
  listeners_.clear();
  return true;
}

bool HostForward::enter_bound(ForwardState state) {
  assert(state != ForwardState::Active || !listeners_.empty());
  assert(info_.host_port != 0 && !info_.host_addresses.empty());
  return enter(state);
}

bool HostForward::note_dial(std::optional<Error> error) {
  const bool was = undialable_.has_value();
  undialable_ = error && cannot_be_dialled(*error) ? error : std::nullopt;
  return undialable_.has_value() != was;
}

bool HostForward::update(ContainerAccess& access, const std::vector<Listener>& listeners,
                         Duration linger) {
  return listeners.empty() ? wait(linger) : serve(access.dialer(protocol()), listeners);
}

std::unique_ptr<ForwardPort> HostForward::leave_container(Duration linger) {
  (void)wait(linger);
  return nullptr;
}

bool HostForward::serve(Dialer& dialer, const std::vector<Listener>& listeners) {
  assert(!listeners.empty());
  last_ = listeners.front();
  if (info_.state == ForwardState::Conflict) return false;
  linger_.disarm();
  const bool other = listeners != listeners_;
  if (other || info_.state != ForwardState::Active) {
    std::vector<ListenAddress> targets;
    for (const Listener& l : listeners) targets.push_back({l.local, l.v6only});
    if (const auto served = port_->serve(dialer, targets); !served)
      return lose_port(served.error());
    undialable_.reset();
  }
  listeners_ = listeners;
  info_.container_address = last_.local.ip().address.text();
  info_.process = last_.process;
  return enter_bound(ForwardState::Active) || other;
}

bool HostForward::wait(Duration linger) {
  listeners_.clear();
  if (info_.state == ForwardState::Conflict) {
    if (info_.origin == Origin::Auto) linger_.arm_now();  // nothing is held, so nothing to wait for
    return false;
  }
  if (const auto held = port_->hold(); !held) return lose_port(held.error());
  if (info_.origin != Origin::Auto) {
    linger_.disarm();
    return enter_bound(ForwardState::Waiting);
  }
  if (!enter_bound(ForwardState::Lingering)) return false;
  looked_again_ = linger == Duration::zero();
  linger_.arm_after(linger);
  return true;
}

bool HostForward::linger_for_a_look() {
  if (info_.state != ForwardState::Lingering || std::exchange(looked_again_, true)) return false;
  linger_.arm_after(kLastLook);
  return true;
}

std::unique_ptr<ForwardPort> HostForward::withdraw(Duration drain) {
  assert(port_ != nullptr);
  linger_.disarm();
  port_->drain(drain);
  return std::move(port_);
}

}  // namespace portfwd
