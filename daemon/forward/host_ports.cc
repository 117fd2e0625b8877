#include "forward/host_ports.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <set>
#include <tuple>
#include <utility>

#include "discover/names.h"
#include "kernel/procfs.h"
#include "kernel/sock_diag.h"

namespace portfwd {

namespace {

constexpr Port kPrivilegedOffset = 8000;

Port preferred_port(const HostPortPlan::Preferences& preferences) {
  if (preferences.asked) return *preferences.asked;
  if (preferences.only_preferred || preferences.container_port >= preferences.first_unprivileged) {
    return preferences.container_port;
  }
  return static_cast<Port>(kPrivilegedOffset + preferences.container_port);
}

}  // namespace

const IpAddress* remote_address(std::span<const IpAddress> addresses) {
  const auto remote = std::ranges::find_if_not(addresses, &IpAddress::is_loopback);
  return remote == addresses.end() ? nullptr : &*remote;
}

HostPortPlan::HostPortPlan(const Settings& settings, const Preferences& preferences)
    : settings_(settings),
      preferences_(preferences),
      preferred_(preferred_port(preferences)),
      fallback_(
          std::max<std::uint32_t>(settings.host.fallback_range.first, preferences.fallback_from)) {
  if (preferences.asked) first_.push_back(*preferences.asked);
  if (preferences.sticky && !preferences.only_preferred) offer(*preferences.sticky);
  if (preferences.only_preferred && !preferences.asked &&
      !contains(settings.host.avoid, preferred_)) {
    first_.push_back(preferred_);  // even if it is privileged: the user wants this port or none
  }
  offer(preferred_);
}

/// Adds a port that was not requested by number.
void HostPortPlan::offer(Port port) {
  if (allowed(port) && !offered(port)) first_.push_back(port);
}

bool HostPortPlan::offered(Port port) const {
  return std::ranges::find(first_, port) != first_.end();
}

bool HostPortPlan::allowed(Port port) const {
  return port >= preferences_.first_unprivileged && !contains(settings_.host.avoid, port);
}

std::optional<Port> HostPortPlan::next() {
  if (next_ < first_.size()) return first_[next_++];
  if (preferences_.only_preferred) return std::nullopt;
  while (fallback_ <= settings_.host.fallback_range.last) {
    const Port port = static_cast<Port>(fallback_++);
    if (allowed(port) && !offered(port)) return port;
  }
  return std::nullopt;
}

namespace {

std::string avoided_sentence(Port port) {
  return fmt::format("port {} is one of [host] avoid", port);
}

/// Why the host port is another one than the container's, for list, event and log; "" if it is not.
std::string remap_reason(const HostPortPlan& plan, Port container_port, Port bound, bool avoided,
                         const std::string& taken) {
  if (bound == container_port) return "";
  if (!taken.empty()) return taken;
  if (avoided) return avoided_sentence(container_port);
  if (plan.preferred() != container_port) {
    return fmt::format("port {} is privileged on the host", container_port);
  }
  return "it had this host port before";
}

}  // namespace

void HostPorts::restore(const State& state) {
  sticky_.restore(state.ports);
  addresses_.restore(state.addresses);
}

void HostPorts::save(State& state) const {
  state.ports = sticky_.all();
  state.addresses = addresses_.all();
}

std::vector<IpAddress> HostPorts::addresses_for(const std::string& container,
                                                const std::optional<Bind>& requested_bind) {
  if (!requested_bind && settings_.host.allocation == Allocation::PerContainer) {
    const auto given = addresses_.address_of(container);
    if (given.is_new) on_remembered_changed_();
    return {given.address};
  }
  const Bind bind = requested_bind.value_or(settings_.host.bind);
  if (bind.only) return {*bind.only};
  return {IpAddress::loopback(Family::V4), IpAddress::loopback(Family::V6)};
}

void HostPorts::release(const HostForward& forward) {
  held_.remove(forward);
  cursors_.port_freed(forward.host_port(), settings_.host.fallback_range);
}

bool HostPorts::misplaced(const HostForward& forward, const Treatment& treatment) {
  if (forward.origin() != Origin::Auto) {
    return !treatment.allow_remote && forward.state() != ForwardState::Conflict &&
           remote_address(forward.tried_addresses()) != nullptr;
  }
  const Treatment& was = forward.treatment();
  return std::tie(was.host_port, was.require_host_port) !=
             std::tie(treatment.host_port, treatment.require_host_port) ||
         forward.tried_addresses() != addresses_for(forward.container_name(), treatment.bind);
}

bool HostPorts::at_home(const HostForward& forward, const ForwardSpec& spec) {
  return forward.tried_addresses() == addresses_for(spec.container, forward.treatment().bind);
}

/// A container with an address of its own needs no memory: every port number is free there.
bool HostPorts::remembers() const {
  return settings_.host.sticky && settings_.host.allocation == Allocation::SamePort;
}

void HostPorts::remember(const HostForward& forward) {
  if (!remembers() || forward.host_port() == 0) return;
  if (sticky_.remember(forward.names(), forward.key().target, forward.host_port()))
    on_remembered_changed_();
}

bool HostPorts::remembered_elsewhere(const HostForward& forward) const {
  const bool chosen = forward.origin() == Origin::Auto && !forward.treatment().host_port;
  if (!chosen || !remembers() || forward.host_port() == 0) return false;
  const Port* before = sticky_.recall(forward.names(), forward.key().target);
  return before != nullptr && *before != forward.host_port() &&
         !held_.has(forward.host_port_protocol(), *before);
}

std::optional<Port> HostPorts::remembered_port(const HostForward& forward) const {
  const Port* before =
      remembers() ? sticky_.recall(forward.names(), forward.key().target) : nullptr;
  return before == nullptr ? std::nullopt : std::optional(*before);
}

HostPlaces::Outcome HostPorts::bind(HostForward& forward, TimePoint now) {
  const Port container_port = forward.key().target.port_number();
  const Treatment& treatment = forward.treatment();
  const auto addresses = addresses_for(forward.container_name(), treatment.bind);
  const FallbackCursors::Place place{forward.host_port_protocol(), addresses};
  HostPortPlan plan(
      settings_, {.container_port = container_port,
                  .sticky = remembered_port(forward),
                  .asked = treatment.host_port,
                  .only_preferred = treatment.require_host_port,
                  .first_unprivileged = sysctl::first_unprivileged_port(),
                  .fallback_from = cursors_.position(place, settings_.host.fallback_range, now)});
  forward.begin_search(addresses);
  if (const IpAddress* remote = remote_address(addresses); remote && !treatment.allow_remote) {
    forward.mark_conflict(
        fmt::format("other machines could connect at {}, and allow_remote is not set",
                    remote->text()),
        kRemoteForbidden);
    return Outcome::Conflict;
  }
  const bool avoided = !treatment.host_port && contains(settings_.host.avoid, container_port);
  std::string taken;  // about the port that the user would expect
  for (auto port = plan.next(); port; port = plan.next()) {
    const auto bound = try_port(forward, addresses, *port);
    if (bound) {
      cursors_.advance(place, plan.fallback_next());
      forward.set_remapped(treatment.host_port == port
                               ? ""
                               : remap_reason(plan, container_port, *port, avoided, taken));
      remember(forward);
      return Outcome::Bound;
    }
    if (taken.empty()) taken = taken_sentence(bound.error());
    const int code = bound.error().error.code;
    if (code != EADDRINUSE && code != EACCES) break;  // such as EMFILE, with which every port fails
    cursors_.advance(place, plan.fallback_next());
    if (turn_over()) {
      forward.mark_conflict(taken + "; searching for another port");
      return Outcome::Unfinished;
    }
  }
  if (taken.empty()) {
    taken = avoided && treatment.require_host_port ? avoided_sentence(container_port)
                                                   : "no port of [host] fallback_range is free";
  }
  forward.mark_conflict(taken);
  return Outcome::Conflict;
}

/// A port that a forward holds costs no system call, but counts as part of a try, since a search
/// may meet thousands of them.
std::expected<void, BindFailure> HostPorts::try_port(HostForward& forward,
                                                     const std::vector<IpAddress>& addresses,
                                                     Port port) {
  const Protocol protocol = forward.host_port_protocol();
  for (const IpAddress& address : addresses) {
    const Endpoint endpoint{address, port};
    if (held_.holder(protocol, endpoint) == nullptr) continue;
    const BindFailure failure{protocol, endpoint, {EADDRINUSE, "bind"}};
    forward.note_failure(failure);
    if (++skipped_ % kSkipsPerBind == 0 && tries_left_ > 0) --tries_left_;
    return std::unexpected(failure);
  }
  if (tries_left_ > 0) --tries_left_;
  held_.remove(forward);
  auto bound = forward.bind(addresses, port);
  if (bound) held_.add(forward);
  return bound;
}

std::string HostPorts::taken_sentence(const BindFailure& failure) const {
  const Endpoint& endpoint = failure.address.ip();
  const Port port = endpoint.port;
  if (failure.error.code == EADDRNOTAVAIL) {
    return fmt::format("{} is not an address of this machine", endpoint.address.text());
  }
  if (failure.error.code == EACCES && port < sysctl::first_unprivileged_port()) {
    return fmt::format("port {} is privileged on the host", port);
  }
  if (failure.error.code != EADDRINUSE) {
    return fmt::format("cannot bind host port {}: {}", port, ::strerror(failure.error.code));
  }
  if (const HostForward* ours = held_.holder(failure.protocol, endpoint)) {
    return fmt::format("port {} is held by container {} (forward {})", port, ours->container_name(),
                       ours->id());
  }
  const std::string holder = holders_.holder_of(failure.protocol, endpoint);
  if (holder.empty()) return fmt::format("port {} is taken on the host", port);
  return fmt::format("port {} is held by {}", port, holder);
}

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMaxLinks = 16384;  ///< descriptors of all programs that one scan reads
constexpr Duration kFresh = 1s;

/// Whether the listener makes a bind to `wanted` fail. Sockets of the daemon are IPV6_V6ONLY.
bool blocks_bind(const DiagSocket& listener, const Endpoint& wanted) {
  const IpAddress& at = listener.local.address;
  if (listener.local.port != wanted.port) return false;
  if (at.family() != wanted.address.family()) {
    return at.family() == Family::V6 && at.is_any() && !listener.v6only;
  }
  return at == wanted.address || at.is_any() || wanted.address.is_any();
}

}  // namespace

const HostPortHolder::Seen& HostPortHolder::scan_host(Protocol protocol) const {
  Seen& seen = seen_[protocol == Protocol::Tcp ? 0 : 1];
  if (seen.at + kFresh > clock_.now()) return seen;
  seen = {};
  seen.at = clock_.now();
  auto diag = SockDiag::open();
  if (!diag) return seen;
  auto listeners = diag->listeners(protocol);
  if (!listeners) return seen;
  seen.listeners = std::move(*listeners);
  std::set<std::uint64_t> inodes;
  for (const DiagSocket& listener : seen.listeners) inodes.insert(listener.inode);
  std::vector<ProcDir::Entry> processes;
  (void)proc_.list(processes);  // if that fails, only the uid is known
  std::vector<pid_t> pids;
  for (const ProcDir::Entry& entry : processes) pids.push_back(entry.pid);
  seen.owners = proc_.socket_owners(pids, std::move(inodes), kMaxLinks);
  return seen;
}

std::string HostPortHolder::holder_of(Protocol protocol, const Endpoint& endpoint) const {
  const Seen& seen = scan_host(protocol);
  const auto holder = std::ranges::find_if(
      seen.listeners, [&](const DiagSocket& l) { return blocks_bind(l, endpoint); });
  if (holder == seen.listeners.end()) return "";
  const auto owner = seen.owners.find(holder->inode);
  const std::string name =
      owner == seen.owners.end() ? "" : names::printable(proc_.comm(owner->second));
  return name.empty() ? fmt::format("a program of uid {}", holder->uid) : name;
}

}  // namespace portfwd
