// Where the ForwardTable has its forwards on the host: which host port each gets, who holds one
// that can't be had, and what is remembered for the next time.
#include <fmt/format.h>

#include <algorithm>

#include "forward/allocation.h"
#include "forward/forward_table.h"
#include "forward/lasting_names.h"

namespace portfwd {

namespace {

Target target_of(const Forward& forward) {
  return {forward.key().protocol, forward.key().port};
}

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
  const Port port = failure.endpoint.port;
  if (failure.error.code != EADDRINUSE) {
    return fmt::format("host port {} can't be bound: {}", port, ::strerror(failure.error.code));
  }
  for (const auto& [key, tied] : forwards_) {
    if (key.protocol != failure.protocol || !tied.forward->holds(failure.endpoint)) continue;
    return fmt::format("port {} is held by container {} (forward {})", port,
                       tied.forward->container_name(), tied.forward->id());
  }
  const std::string holder = parts_.holders.holder_of(failure.protocol, failure.endpoint);
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
  if (!remembers_ports() || forward.host_port() == 0) return;
  if (sticky_.remember(names_of(forward), target_of(forward), forward.host_port())) {
    parts_.observer.on_state_changed();
  }
}

/// Its container was found before its engine told what it is called: by that name the detected
/// forward may have had another host port, which nobody else has now.
bool ForwardTable::remembered_elsewhere(const Forward& forward) const {
  const bool chosen = forward.origin() == Origin::Auto && !forward.treatment().host_port;
  if (!chosen || !remembers_ports() || forward.host_port() == 0) return false;
  const auto before = sticky_.recall(names_of(forward), target_of(forward));
  return before && *before != forward.host_port() &&
         std::ranges::none_of(forwards_, [&](const auto& other) {
           return other.second.forward->host_port() == *before;
         });
}

/// The container has other names than at the last look, or its first.
void ForwardTable::follow_names(Entry& entry) {
  const Container& container = entry.reach->container();
  std::vector<std::string> names = lasting_names(container);
  if (names == entry.names) return;
  entry.names = std::move(names);
  for (auto it = forwards_.lower_bound({container.id, Protocol::Tcp, 0});
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

bool ForwardTable::bind(Forward& forward) {
  const ForwardKey& key = forward.key();
  const Treatment& treatment = forward.treatment();
  const auto addresses = host_addresses(forward.container_name(), treatment.bind);
  const auto sticky =
      remembers_ports() ? sticky_.recall(names_of(forward), target_of(forward)) : std::nullopt;
  HostPortPlan plan(settings_, {.container_port = key.port,
                                .sticky = sticky,
                                .asked = treatment.host_port,
                                .only_preferred = treatment.require_host_port,
                                .first_unprivileged = first_unprivileged_port()});
  forward.forget_failures();
  std::string taken;  // about the port that a person would expect
  for (auto port = plan.next(); port; port = plan.next()) {
    const auto bound = forward.bind(addresses, *port);
    if (bound) {
      forward.set_remapped(
          treatment.host_port == port ? "" : remap_reason(plan, key.port, *port, taken));
      remember_port(forward);
      return true;
    }
    if (taken.empty()) taken = taken_sentence(bound.error());
    const int code = bound.error().error.code;
    if (code != EADDRINUSE && code != EACCES) break;  // such as EMFILE: no other port would do
  }
  if (taken.empty()) taken = "no port of [host] fallback_range is left";
  forward.mark_conflict(taken);
  return false;
}

}  // namespace portfwd
