#include "forward/forward.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <tuple>

#include "base/unique_fd.h"
#include "forward/forward_set.h"
#include "state/container_memory.h"

namespace portfwd {

Forward::Forward(const RelayServices& relay, ForwardSet& owner, std::string id, ForwardKey key,
                 Origin origin)
    : relay_(relay), owner_(owner), key_(std::move(key)) {
  assert(!id.empty());
  info_.id = std::move(id);
  info_.origin = origin;
  info_.protocol = protocol();
  info_.direction = key_.direction;
  info_.container_port = key_.target.port_number();
  info_.target = key_.target.text();
  info_.container_path = key_.target.path();
  info_.state = ForwardState::Waiting;
  info_.since = relay.context.loop().clock().wall();
}

bool Forward::describe(const Container& container) {
  assert(key_.container == container.id);
  names_ = lasting_names(container);
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
  names_ = {container_name};
}

void Forward::configure(const ForwardPortSettings& settings) {
  assert(port_ != nullptr);
  settings_ = adapt_settings(settings);
  settings_.id = info_.id;
  settings_.container = key_.container;
  settings_.pass_fds = treatment_.socket.pass_fds;
  settings_.name = fmt::format("{}:{}{}", info_.container_name, info_.target,
                               key_.direction == Direction::Reverse ? " (reverse)" : "");
  port_->configure(settings_);
}

bool Forward::apply_treatment(const Treatment& treatment, const ForwardPortSettings& settings) {
  treatment_ = treatment;
  configure(settings);
  const auto before = std::tie(info_.label, info_.on_auto_forward, info_.url);
  const std::string address = url();
  const auto now = std::tie(treatment_.label, treatment_.on_auto_forward, address);
  if (before == now) return false;
  info_.label = treatment_.label;
  info_.on_auto_forward = treatment_.on_auto_forward;
  info_.url = address;
  return true;
}

namespace {

constexpr std::size_t kFailuresKept = 16;
constexpr Duration kLastPollWait =
    std::chrono::milliseconds(250);  ///< for the last poll before the end
constexpr std::string_view kNoContainer = "its container does not exist";
constexpr std::string_view kNoListener = "nothing listens on it";

/// Joins two reasons, each of which may be "".
std::string join_reasons(std::string_view first, std::string_view second) {
  return fmt::format("{}{}{}", first, first.empty() || second.empty() ? "" : "; ", second);
}

}  // namespace

HostForward::HostForward(const RelayServices& relay, ForwardSet& owner, std::string id,
                         ForwardKey key, Origin origin, HostSide side)
    : Forward(relay, owner, std::move(id), std::move(key), origin),
      side_(side),
      linger_(relay.context.loop(), [this] { owner_.on_linger_over(*this); }) {
  assert(key_.direction == Direction::In);
  port_ = make_port();
}

/// A port has no permission bits, unlike the Unix socket that it leads to: then no other user may
/// connect, whatever the settings.
ForwardPortSettings HostForward::adapt_settings(ForwardPortSettings settings) const {
  if (side_.listens != key_.target.host_port_protocol() || key_.target.port() != nullptr) {
    return settings;
  }
  settings.admission = {};
  return settings;
}

std::unique_ptr<ForwardPort> HostForward::make_port() {
  return make_forward_port(side_.listens, relay_, settings_, owner_);
}

ForwardInfo HostForward::info() const {
  assert(port_ != nullptr);  // not after withdraw()
  ForwardInfo out = info_;
  out.counters = counters();
  out.pending = out.state == ForwardState::Conflict && out.error == EINPROGRESS;
  if (out.state == ForwardState::Waiting) {
    out.reason = join_reasons(out.container_id.empty() ? kNoContainer : kNoListener, out.reason);
  }
  if (out.state == ForwardState::Active && undialable_) {
    out.state = ForwardState::Waiting;
    out.error = undialable_->code;
    out.reason = join_reasons(undialable_reason(*undialable_), out.reason);
  }
  const std::string trouble = relay_.identity.trouble(side_.listens);
  if (!trouble.empty() && settings_.admission.restrict_to_user) {
    out.reason = join_reasons(out.reason, trouble);
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

/// Only a TCP port has a URL: the scheme is that of a web server.
std::string HostForward::url() const {
  if (side_.listens != Protocol::Tcp || port_->addresses().empty()) return "";
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
  return note_bound(port_->bind(endpoints));
}

std::expected<void, BindFailure> HostForward::adopt(BoundSocket socket) {
  assert(side_.listens == Protocol::Unix);
  std::vector<BoundSocket> one;
  one.push_back(std::move(socket));
  return note_bound(static_cast<StreamPort&>(*port_).adopt(std::move(one)));
}

std::expected<void, BindFailure> HostForward::note_bound(std::expected<void, BindFailure> bound) {
  if (!bound) {
    note_failure(bound.error());
    return bound;
  }
  info_.host_addresses.clear();
  for (const Address& address : port_->addresses()) {
    if (const Endpoint* ip = address.endpoint()) {
      info_.host_addresses.push_back(ip->address.text());
      info_.host_port = ip->port;
    } else {
      info_.host_path = address.text();
    }
  }
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

/// Another program took the port between bind(2) and listen(2): the table tries another one.
bool HostForward::on_port_lost(const BindFailure& failure) {
  mark_conflict(fmt::format("{}: {}", failure.address.text(), failure.error.text()));
  info_.error = failure.error.code;
  port_ = make_port();
  listeners_.clear();
  return true;
}

std::unique_ptr<ForwardPort> HostForward::lose_place(const BindFailure& failure, Duration drain) {
  auto lost = std::exchange(port_, make_port());
  configure(settings_);
  lost->drain(drain);
  mark_conflict(fmt::format("{}: {}", failure.address.text(), failure.error.text()),
                failure.error.code);
  listeners_.clear();
  return lost;
}

bool HostForward::enter_bound(ForwardState state) {
  assert(state != ForwardState::Active || !listeners_.empty());
  assert(!port_->addresses().empty());
  return enter_state(state);
}

bool HostForward::note_dial(std::optional<Error> error) {
  if (error && !cannot_be_dialled(*error)) error.reset();
  const auto code = [](const std::optional<Error>& e) { return e ? e->code : 0; };
  const bool changed = code(error) != code(undialable_);
  undialable_ = error;
  return changed;
}

bool HostForward::update(ContainerAccess& access, const std::vector<Listener>& listeners,
                         Duration linger) {
  if (listeners.empty()) return wait(linger);
  const DialOptions options{.protocol = protocol(),
                            .type = listeners.front().type,
                            .refuse_fds = !treatment_.socket.pass_fds,
                            .peer_uid = treatment_.socket.peer_uid};
  return serve(access.dialer(options), listeners);
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
      return on_port_lost(served.error());
    undialable_.reset();
  }
  listeners_ = listeners;
  const IpAddress* inside = last_.ip_address();
  info_.container_address = inside == nullptr ? "" : inside->text();
  info_.process = last_.process;
  info_.socket_type = last_.type_name();
  return enter_bound(ForwardState::Active) || other;
}

bool HostForward::wait(Duration linger) {
  listeners_.clear();
  if (info_.state == ForwardState::Conflict) {
    if (info_.origin == Origin::Auto) linger_.arm_now();  // no host port to keep
    return false;
  }
  if (const auto held = port_->hold(); !held) return on_port_lost(held.error());
  if (info_.origin != Origin::Auto) {
    linger_.disarm();
    return enter_bound(ForwardState::Waiting);
  }
  if (!enter_bound(ForwardState::Lingering)) return false;
  last_poll_done_ = linger == Duration::zero();
  linger_.arm_after(linger);
  return true;
}

bool HostForward::linger_for_last_poll() {
  if (info_.state != ForwardState::Lingering || std::exchange(last_poll_done_, true)) return false;
  linger_.arm_after(kLastPollWait);
  return true;
}

std::unique_ptr<ForwardPort> HostForward::withdraw(Duration drain) {
  assert(port_ != nullptr);
  linger_.disarm();
  port_->drain(drain);
  return std::move(port_);
}

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

InsideForward::InsideForward(const RelayServices& relay, ForwardSet& owner, std::string id,
                             ForwardKey key, Origin origin, HostTarget host)
    : Forward(relay, owner, std::move(id), std::move(key), origin), host_(std::move(host)) {
  assert(key_.direction == Direction::Reverse && protocol() != Protocol::Udp);
  assert(!host_.addresses.empty());
  if (key_.target.port() != nullptr) info_.container_address = kLoopbacks.front().text();
  for (const ListenAddress& there : host_.addresses) {
    if (const Endpoint* ip = there.address.endpoint())
      info_.host_addresses.push_back(ip->address.text());
  }
  info_.host_port = host_.port;
  info_.host_path = host_.path;
  port_ = make_port();
}

std::unique_ptr<ForwardPort> InsideForward::make_port() const {
  return std::make_unique<StreamPort>(relay_, settings_, owner_, protocol());
}

ForwardPortSettings InsideForward::adapt_settings(ForwardPortSettings settings) const {
  settings.admission = {.restrict_to_user = false, .allow_remote = true};
  settings.proxy_protocol = ProxyProtocol::Off;
  return settings;
}

/// The relay's clients are inside, so its directions are swapped.
Counters InsideForward::counters() const {
  Counters out = past_counters_;
  add(out, port_->counters());
  std::swap(out.bytes_in, out.bytes_out);
  return out;
}

ForwardInfo InsideForward::info() const {
  assert(port_ != nullptr);  // not after withdraw()
  ForwardInfo out = info_;
  out.counters = counters();
  out.pending = out.state == ForwardState::Waiting && access_ != nullptr;
  if (out.state == ForwardState::Waiting) {
    out.reason = access_ == nullptr ? kNoContainer : "its socket inside is being made";
  }
  return out;
}

bool InsideForward::update(ContainerAccess& access, const std::vector<Listener>&, Duration) {
  assert(access_ == nullptr || access_ == &access);
  if (inside_ != nullptr || access.state() != ContainerState::Watched) return false;
  const bool first = std::exchange(access_, &access) == nullptr;
  auto taken =
      access.listen_inside({key_.target, treatment_.socket},
                           [this](InsideSockets sockets) { on_inside_port(std::move(sockets)); });
  if (taken) {
    inside_ = std::move(*taken);
  } else {
    set_outcome(ForwardState::Conflict, taken.error().text);
  }
  return first;
}

/// Drains before inside_ is destroyed, so that its sockets are not reported as listeners.
std::unique_ptr<ForwardPort> InsideForward::release_port(Duration drain) {
  auto left = std::exchange(port_, make_port());
  configure(settings_);
  add(past_counters_, left->counters());
  past_counters_.active = 0;
  left->drain(drain);
  inside_.reset();
  return left;
}

std::unique_ptr<ForwardPort> InsideForward::lose_place(const BindFailure& failure, Duration drain) {
  auto lost = release_port(drain);
  info_.state = ForwardState::Conflict;
  info_.error = failure.error.code;
  info_.reason = conflict_text({failure.error, failure.error.text()});
  return lost;
}

std::unique_ptr<ForwardPort> InsideForward::leave_container(Duration) {
  auto left = release_port(Duration::zero());
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

void InsideForward::on_inside_port(InsideSockets sockets) {
  if (!sockets) return enter_conflict(sockets.error());
  const auto failed = [this](const BindFailure& failure) {
    enter_conflict({failure.error, failure.error.text()});
  };
  if (const auto adopted = stream().adopt(std::move(*sockets)); !adopted) {
    return failed(adopted.error());
  }
  if (const auto served = port_->serve(host_.dialer, host_.addresses); !served) {
    port_ = make_port();
    return failed(served.error());
  }
  set_outcome(ForwardState::Active, "");
}

void InsideForward::enter_conflict(const InsideFailure& failure) {
  set_outcome(ForwardState::Conflict, conflict_text(failure), failure.error.code);
}

void InsideForward::set_outcome(ForwardState state, const std::string& reason, int error) {
  info_.error = error;
  if (state == ForwardState::Conflict) inside_.reset();
  const bool other_state = enter_state(state);
  const bool other_reason = std::exchange(info_.reason, reason) != reason;
  owner_.on_update_complete(*this, other_state || other_reason);
}

std::string InsideForward::conflict_text(const InsideFailure& failure) const {
  const std::string target = named(key_.target);
  if (failure.error.code != EADDRINUSE) {
    return fmt::format("cannot open {} inside: {}", target, failure.text);
  }
  const auto& listeners = access_->listeners();
  const auto holder = std::ranges::find_if(listeners, [&](const Listener& l) {
    return l.target() == key_.target && !l.process.empty();
  });
  const std::string by = holder == listeners.end() ? "" : " by " + holder->process.str();
  return fmt::format("{} is taken inside{}", target, by);
}

}  // namespace portfwd
