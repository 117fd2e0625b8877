#include "forward/forward.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <tuple>

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

Forward::Forward(const RelayServices& relay, ForwardObserver& observer, std::string id,
                 ForwardKey key, Origin origin)
    : relay_(relay),
      observer_(observer),
      key_(std::move(key)),
      port_(make_port()),
      linger_(relay.context.loop(), [this] { observer_.on_linger_over(*this); }) {
  info_.id = std::move(id);
  info_.origin = origin;
  info_.protocol = protocol();
  info_.container_port = key_.target.port_number();
  info_.target = key_.target.text();
  info_.state = ForwardState::Waiting;
  info_.since = relay.context.loop().clock().wall();
}

std::unique_ptr<ForwardPort> Forward::make_port() {
  return make_forward_port(protocol(), relay_, settings_, observer_);
}

ForwardInfo Forward::info() const {
  assert(port_ != nullptr);  // not after withdraw()
  ForwardInfo out = info_;
  out.counters = port_->counters();
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

bool Forward::holds(const Address& wanted) const {
  const Endpoint& endpoint = wanted.ip();
  return std::ranges::any_of(port_->addresses(), [&](const Address& address) {
    const Endpoint& ours = address.ip();
    const bool overlap =
        ours.address == endpoint.address || ours.address.is_any() || endpoint.address.is_any();
    return ours.port == endpoint.port && overlap;
  });
}

bool Forward::describe(const Container& container) {
  const auto ours = std::tie(info_.container_id, info_.container_name, info_.container_engine);
  const auto theirs = std::tie(container.id, container.name, container.engine);
  if (ours == theirs) return false;
  info_.container_id = container.id;
  info_.container_name = container.name;
  info_.container_engine = container.engine;
  configure(settings_);
  return true;
}

void Forward::describe_missing(const std::string& container_name) {
  info_.container_id.clear();
  info_.container_engine.clear();
  info_.container_name = container_name;
}

void Forward::configure(const ForwardPortSettings& settings) {
  settings_ = settings;
  settings_.id = info_.id;
  settings_.name = fmt::format("{}:{}", info_.container_name, info_.target);
  port_->configure(settings_);
}

bool Forward::treat(const Treatment& treatment, const ForwardPortSettings& settings) {
  treatment_ = treatment;
  configure(settings);
  const auto before = std::tie(info_.label, info_.on_auto_forward, info_.url);
  const std::string address = info_.host_addresses.empty() ? "" : url();
  const auto now = std::tie(treatment_.label, treatment_.on_auto_forward, address);
  if (before == now) return false;
  info_.label = treatment_.label;
  info_.on_auto_forward = treatment_.on_auto_forward;
  info_.url = address;
  return true;
}

/// None for UDP: the scheme is that of a web server.
std::string Forward::url() const {
  if (protocol() == Protocol::Udp) return "";
  Endpoint at = port_->addresses().front().ip();
  if (at.address.is_any()) at.address = IpAddress::loopback(at.address.family());
  return fmt::format("{}://{}/", treatment_.scheme, at.text());
}

std::expected<void, BindFailure> Forward::bind(const std::vector<IpAddress>& addresses, Port port) {
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

void Forward::note_failure(const BindFailure& failure) {
  if (failures_.size() < kFailuresKept) failures_.push_back(failure);
}

void Forward::mark_conflict(std::string reason, std::optional<int> error) {
  info_.reason = std::move(reason);
  info_.state = ForwardState::Conflict;
  const auto shortage = std::ranges::find_if(
      failures_, [](const BindFailure& f) { return is_descriptor_shortage(f.error); });
  const auto decisive = shortage != failures_.end() ? shortage : failures_.begin();
  info_.error = error.value_or(decisive != failures_.end() ? decisive->error.code : 0);
}

/// Somebody else got hold of the port between bind and listen: the table tries another one.
bool Forward::lose_port(const BindFailure& failure) {
  mark_conflict(fmt::format("{}: {}", failure.address.text(), failure.error.text()));
  info_.error = failure.error.code;
  port_ = make_port();
  listeners_.clear();
  return true;
}

bool Forward::enter(ForwardState state) {
  assert(state != ForwardState::Active || !listeners_.empty());
  assert(info_.host_port != 0 && !info_.host_addresses.empty());
  return std::exchange(info_.state, state) != state;
}

bool Forward::note_dial(std::optional<Error> error) {
  const bool was = undialable_.has_value();
  undialable_ = error && cannot_be_dialled(*error) ? error : std::nullopt;
  return undialable_.has_value() != was;
}

bool Forward::serve(Dialer& dialer, const std::vector<Listener>& listeners) {
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
  return enter(ForwardState::Active) || other;
}

bool Forward::wait(Duration linger) {
  listeners_.clear();
  if (info_.state == ForwardState::Conflict) {
    if (info_.origin == Origin::Auto) linger_.arm_now();  // nothing is held, so nothing to wait for
    return false;
  }
  if (const auto held = port_->hold(); !held) return lose_port(held.error());
  if (info_.origin != Origin::Auto) {
    linger_.disarm();
    return enter(ForwardState::Waiting);
  }
  if (!enter(ForwardState::Lingering)) return false;
  looked_again_ = linger == Duration::zero();
  linger_.arm_after(linger);
  return true;
}

bool Forward::linger_for_a_look() {
  if (info_.state != ForwardState::Lingering || std::exchange(looked_again_, true)) return false;
  linger_.arm_after(kLastLook);
  return true;
}

std::unique_ptr<ForwardPort> Forward::withdraw() {
  assert(port_ != nullptr);
  linger_.disarm();
  return std::move(port_);
}

}  // namespace portfwd
