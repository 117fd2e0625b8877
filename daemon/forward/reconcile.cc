// The reconcile step of the ForwardTable: desired forwards of one container against the actual
// ones.
#include <fmt/format.h>

#include <algorithm>

#include "forward/allocation.h"
#include "forward/forward_table.h"

namespace portfwd {

namespace {

Target target_of(const ForwardKey& key) {
  return {key.protocol, key.port};
}
Target target_of(const Listener& l) {
  return {l.protocol, l.local.port};
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

void ForwardTable::reconcile(Entry& entry) {
  if (stopped_) return;
  Plan plan = plan_of(entry);
  limit(entry, plan);
  update_existing(entry, plan);
  create_missing(entry, plan);
}

ForwardTable::Plan ForwardTable::plan_of(Entry& entry) {
  const auto& listeners = entry.reach->listeners();
  std::map<Target, std::vector<Listener>> by_target;
  for (const Listener& l : listeners) by_target[target_of(l)].push_back(l);
  std::erase_if(entry.suppressed, [&](const Target& t) { return !by_target.contains(t); });

  Plan plan;
  for (const auto& [target, group] : by_target) {
    Decision decision = decide(settings_, group);
    if (!decision.forward || entry.suppressed.contains(target)) continue;
    plan[target] = {dialable(settings_, group), nullptr, std::move(decision)};
  }
  for (const ManualRequest& request : requests_) {
    if (request.container_id != entry.reach->container().id) continue;
    plan[request.target] = {listeners_meant(request, listeners), &request, {true, "by hand"}};
  }
  return plan;
}

/// Those that are there stay; of the others the lowest ports come first.
void ForwardTable::limit(Entry& entry, Plan& plan) {
  const std::string& id = entry.reach->container().id;
  const auto exists = [&](const Target& t) { return forwards_.contains({id, t.protocol, t.port}); };
  std::size_t automatic = 0;
  for (const auto& [key, tied] : forwards_) {
    automatic += key.container == id && tied.forward->origin() == Origin::Auto ? 1 : 0;
  }
  const std::size_t before = plan.size();
  std::erase_if(plan, [&](const auto& wanted) {
    if (wanted.second.request != nullptr || exists(wanted.first)) return false;
    return ++automatic > settings_.host.max_forwards;
  });
  const bool over = plan.size() < before;
  if (over && !entry.limit_told) {
    parts_.observer.on_limit(entry.reach->container(), settings_.host.max_forwards);
  }
  entry.limit_told = over;
}

void ForwardTable::update_existing(Entry& entry, const Plan& plan) {
  const Container& container = entry.reach->container();
  const auto& listeners = entry.reach->listeners();
  for (auto it = forwards_.lower_bound({container.id, Protocol::Tcp, 0});
       it != forwards_.end() && it->first.container == container.id;) {
    const auto next = std::next(it);
    const Target target = target_of(it->first);
    const auto wanted = plan.find(target);
    const bool listens =
        std::ranges::any_of(listeners, [&](const Listener& l) { return target_of(l) == target; });
    if (wanted != plan.end()) {
      update(it->second, entry, wanted->second);
      if (lost_port(it->second)) withdraw(it, "replaced");  // and made anew, elsewhere
    } else if (listens) {
      withdraw(it, "rule");  // it is there, and the settings want it no longer
    } else if (it->second.forward->wait(settings_.host.linger)) {
      told_change(it->second);
    }
    it = next;
  }
}

/// It had a host port, and somebody else took it between bind and listen.
bool ForwardTable::lost_port(const Tied& tied) {
  return tied.announced && tied.forward->state() == ForwardState::Conflict;
}

void ForwardTable::update(Tied& tied, Entry& entry, const Wanted& wanted) {
  const bool changed = wanted.listeners.empty()
                           ? tied.forward->wait(settings_.host.linger)
                           : tied.forward->serve(entry.reach->dialer(), wanted.listeners);
  if (changed) told_change(tied);
}

void ForwardTable::create_missing(Entry& entry, const Plan& plan) {
  const Container& container = entry.reach->container();
  std::vector<Tied*> added;
  for (const auto& [target, wanted] : plan) {
    const ForwardKey key{container.id, target.protocol, target.port};
    if (forwards_.contains(key)) continue;
    Forward& forward = create(key, wanted);
    forward.describe(container);
    bind(forward, wanted.request);
    if (wanted.listeners.empty()) {
      forward.wait(settings_.host.linger);
    } else {
      forward.serve(entry.reach->dialer(), wanted.listeners);
    }
    added.push_back(&forwards_.at(key));
  }
  announce(added);
}

Forward& ForwardTable::create(const ForwardKey& key, const Wanted& wanted) {
  const ManualRequest* request = wanted.request;
  const Origin origin = request == nullptr ? Origin::Auto : Origin::Manual;
  std::string id = request != nullptr ? request->forward_id : fmt::format("f{}", next_id_++);
  ForwardObserver& self = *this;  // a private base: visible here, not in make_unique
  auto forward =
      std::make_unique<Forward>(parts_.relay, self, std::move(id), key, origin, port_settings());
  if (request != nullptr) forward->set_label(request->options.label);
  forward->set_on_auto_forward(wanted.decision.on_auto_forward);
  return *(forwards_[key] = Tied{std::move(forward), false}).forward;
}

/// For people: one of our own forwards, a program that can be named, or just taken.
std::string ForwardTable::taken_sentence(const BindFailure& failure) const {
  const Port port = failure.endpoint.port;
  if (failure.error.code != EADDRINUSE) {
    return fmt::format("host port {} can't be bound: {}", port, ::strerror(failure.error.code));
  }
  for (const auto& [key, tied] : forwards_) {
    if (!tied.forward->holds(failure.endpoint)) continue;
    return fmt::format("port {} is held by container {} (forward {})", port,
                       tied.forward->container_name(), tied.forward->id());
  }
  const std::string holder = parts_.holders.holder_of(failure.endpoint);
  if (holder.empty()) return fmt::format("port {} is taken on the host", port);
  return fmt::format("port {} is held by {}", port, holder);
}

/// With an address of its own a container has every port number to itself.
bool ForwardTable::remembers_ports() const {
  return settings_.host.sticky && settings_.host.allocation == Allocation::SamePort;
}

void ForwardTable::remember_port(const Forward& forward) {
  if (!remembers_ports() || forward.host_port() == 0) return;
  const StickyPorts::Key key{forward.container_name(), target_of(forward.key())};
  if (sticky_.remember(key, forward.host_port())) parts_.observer.on_state_changed();
}

bool ForwardTable::bind(Forward& forward, const ManualRequest* request) {
  const ForwardKey& key = forward.key();
  const StickyPorts::Key memory{forward.container_name(), target_of(key)};
  const auto fixed = request == nullptr ? std::nullopt : request->options.host_port;
  const auto addresses = host_addresses(forward, request);
  HostPortPlan plan(settings_, {key.port, remembers_ports() ? sticky_.recall(memory) : std::nullopt,
                                first_unprivileged_port()});
  std::string taken;  // about the port that a person would expect
  for (auto port = fixed ? fixed : plan.next(); port; port = fixed ? std::nullopt : plan.next()) {
    const auto bound = forward.bind(addresses, *port);
    if (bound) {
      forward.set_remapped(fixed ? "" : remap_reason(plan, key.port, *port, taken));
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
