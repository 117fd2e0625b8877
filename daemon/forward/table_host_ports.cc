// Where the ForwardTable has its forwards on the host: which host port each gets, who holds one
// that can't be had, and what is remembered for the next time.
#include <fmt/format.h>

#include <algorithm>

#include "forward/allocation.h"
#include "forward/forward_table.h"
#include "forward/lasting_names.h"

namespace portfwd {

namespace {

/// Why the host port is not the container's, for list, event and log.
std::string remap_reason(const HostPortPlan& plan, Port container_port, Port bound,
                         const std::string& taken) {
  if (bound == container_port) return "";
  if (!taken.empty()) return taken;
  if (plan.preferred() != container_port) {
    return fmt::format("port {} is privileged on the host", container_port);
  }
  return "it had this host port before";
}

}  // namespace

/// For people: one of our own forwards, a program that can be named, or just taken.
std::string ForwardTable::taken_sentence(const BindFailure& failure) const {
  const Endpoint& endpoint = failure.address.ip();
  const Port port = endpoint.port;
  if (failure.error.code == EADDRNOTAVAIL) {
    return fmt::format("{} is no address of this machine", endpoint.address.text());
  }
  if (failure.error.code == EACCES && port < first_unprivileged_port()) {
    return fmt::format("port {} is privileged on the host", port);
  }
  if (failure.error.code != EADDRINUSE) {
    return fmt::format("host port {} can't be bound: {}", port, ::strerror(failure.error.code));
  }
  if (const HostForward* ours = held_.holder(failure.protocol, endpoint)) {
    return fmt::format("port {} is held by container {} (forward {})", port, ours->container_name(),
                       ours->id());
  }
  const std::string holder = parts_.holders.holder_of(failure.protocol, endpoint);
  if (holder.empty()) return fmt::format("port {} is taken on the host", port);
  return fmt::format("port {} is held by {}", port, holder);
}

/// With an address of its own a container has every port number to itself.
bool ForwardTable::remembers_ports() const {
  return settings_.host.sticky && settings_.host.allocation == Allocation::SamePort;
}

/// What the container of a forward is called; one that is away only by its name.
std::vector<std::string> ForwardTable::names_of(const Forward& forward) const {
  const auto entry = entries_.find(forward.key().container);
  if (entry == entries_.end()) return {forward.container_name()};
  return lasting_names(entry->second.reach->container());
}

void ForwardTable::remember_port(const Forward& forward) {
  if (!remembers_ports() || forward.on_host() == nullptr || forward.host_port() == 0) return;
  if (sticky_.remember(names_of(forward), forward.key().target, forward.host_port())) {
    parts_.observer.on_state_changed();
  }
}

/// Its container was found before its engine told what it is called: by that name the detected
/// forward may have had another host port, which nobody else has now.
bool ForwardTable::remembered_elsewhere(const Forward& forward) const {
  if (forward.on_host() == nullptr) return false;
  const bool chosen = forward.origin() == Origin::Auto && !forward.treatment().host_port;
  if (!chosen || !remembers_ports() || forward.host_port() == 0) return false;
  const auto before = sticky_.recall(names_of(forward), forward.key().target);
  return before && *before != forward.host_port() && !held_.has(forward.protocol(), *before);
}

/// The container has other names than at the last look, or its first.
void ForwardTable::follow_names(Entry& entry) {
  const Container& container = entry.reach->container();
  std::vector<std::string> names = lasting_names(container);
  if (names == entry.names) return;
  entry.names = std::move(names);
  for (auto it = forwards_.lower_bound({container.id, {}});
       it != forwards_.end() && it->first.container == container.id;) {
    const auto current = it++;
    const Forward& forward = *current->second.forward;
    if (remembered_elsewhere(forward)) {
      withdraw(current, "replaced");  // and made anew, there
    } else {
      remember_port(forward);
    }
  }
}

/// A search that a turn does not finish goes on in the next one. A failure is retried later.
bool ForwardTable::bind(Forward& any) {
  if (any.on_host() == nullptr) return true;
  HostForward& forward = *any.on_host();
  const Port container_port = forward.key().target.port_number();
  const Treatment& treatment = forward.treatment();
  const auto addresses = host_addresses(forward.container_name(), treatment.bind);
  const auto sticky =
      remembers_ports() ? sticky_.recall(names_of(forward), forward.key().target) : std::nullopt;
  const FallbackCursors::Place place{forward.protocol(), addresses};
  HostPortPlan plan(settings_, {.container_port = container_port,
                                .sticky = sticky,
                                .asked = treatment.host_port,
                                .only_preferred = treatment.require_host_port,
                                .first_unprivileged = first_unprivileged_port(),
                                .fallback_from = cursors_.position(
                                    place, settings_.host.fallback_range, parts_.loop.now())});
  forward.begin_search(addresses);
  if (const IpAddress* remote = remote_address(addresses); remote && !treatment.allow_remote) {
    forward.mark_conflict(
        fmt::format("at {} other machines could connect, and allow_remote is not set",
                    remote->text()),
        kNotForOthers);
    retries_.add(forward.id(), parts_.loop.now());
    schedule();
    return false;
  }
  std::string taken;  // about the port that a person would expect
  for (auto port = plan.next(); port; port = plan.next()) {
    const auto bound = try_port(forward, addresses, *port);
    if (bound) {
      cursors_.advance(place, plan.fallback_next());
      forward.set_remapped(
          treatment.host_port == port ? "" : remap_reason(plan, container_port, *port, taken));
      retries_.remove(forward.id());
      remember_port(forward);
      return true;
    }
    if (taken.empty()) taken = taken_sentence(bound.error());
    const int code = bound.error().error.code;
    if (code != EADDRINUSE && code != EACCES) break;  // such as EMFILE: no other port would do
    cursors_.advance(place, plan.fallback_next());
    if (budget_.binds == 0) {
      forward.mark_conflict(taken + "; the search for another port goes on");
      retries_.resume(forward.id(), parts_.loop.now());
      schedule();
      return false;
    }
  }
  if (taken.empty()) taken = "no port of [host] fallback_range is left";
  forward.mark_conflict(taken);
  retries_.add(forward.id(), parts_.loop.now());
  schedule();
  return false;
}

/// Those that our own forwards hold cost no system call.
std::expected<void, BindFailure> ForwardTable::try_port(HostForward& forward,
                                                        const std::vector<IpAddress>& addresses,
                                                        Port port) {
  const Protocol protocol = forward.protocol();
  for (const IpAddress& address : addresses) {
    const Endpoint endpoint{address, port};
    if (held_.holder(protocol, endpoint) == nullptr) continue;
    const BindFailure failure{protocol, endpoint, {EADDRINUSE, "bind"}};
    forward.note_failure(failure);
    return std::unexpected(failure);
  }
  if (budget_.binds > 0) --budget_.binds;
  held_.remove(forward);
  auto bound = forward.bind(addresses, port);
  if (bound) held_.add(forward);
  return bound;
}

}  // namespace portfwd
