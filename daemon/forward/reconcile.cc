// The reconcile step of the ForwardTable: desired forwards of one container against the actual
// ones.
#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "forward/forward_table.h"

namespace portfwd {

namespace {

Target target_of(const ForwardKey& key) {
  return {key.protocol, key.port};
}
Target target_of(const Listener& l) {
  return {l.protocol, l.local.port};
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
  entry.ages.update(listeners, {parts_.loop.now(), parts_.loop.clock().wall()});
  entry.settled = TimePoint::max();

  Plan plan;
  for (const auto& [target, group] : by_target) {
    if (entry.suppressed.contains(target)) continue;
    Wanted wanted = detected(entry, group);
    if (!wanted.listeners.empty()) plan[target] = std::move(wanted);
  }
  if (entry.settled < TimePoint::max() &&
      (!settle_over_.armed() || entry.settled < settle_over_.when())) {
    settle_over_.arm_at(entry.settled);
  }
  add_lingering(entry, plan);
  for (const ForwardRequest& request : requests_) {
    const Container& container = entry.reach->container();
    if (request.container_id != container.id) continue;
    auto meant = listeners_meant(request, listeners);
    Treatment treatment = treatment_of(request, &container, meant);
    plan[request.target] = {std::move(meant), &request, std::move(treatment)};
  }
  return plan;
}

/// Those listeners of one port that are to be forwarded now. One that comes back to its forward has
/// not to settle again.
ForwardTable::Wanted ForwardTable::detected(Entry& entry, std::span<const Listener> group) {
  const Container& container = entry.reach->container();
  const Target target = target_of(group.front());
  const bool exists = forwards_.contains({container.id, target.protocol, target.port});
  Wanted wanted;
  for (const Listener& listener : group) {
    Decision decision = decide(policy(), container, listener);
    if (!decision.forward) continue;
    const TimePoint settled = entry.ages.find(listener)->at + decision.settle;
    if (!exists && settled > parts_.loop.now()) {
      entry.settled = std::min(entry.settled, settled);
      continue;
    }
    if (wanted.listeners.empty()) wanted.treatment = std::move(decision.treatment);
    wanted.listeners.push_back(listener);
  }
  return wanted;
}

/// Those whose listener has gone are wanted as if it were there, for a while: see Forward::wait.
void ForwardTable::add_lingering(const Entry& entry, Plan& plan) {
  const Container& container = entry.reach->container();
  const auto& listeners = entry.reach->listeners();
  for (auto it = forwards_.lower_bound({container.id, Protocol::Tcp, 0});
       it != forwards_.end() && it->first.container == container.id; ++it) {
    const Forward& forward = *it->second.forward;
    const Target target = target_of(it->first);
    const bool listens =
        std::ranges::any_of(listeners, [&](const Listener& l) { return target_of(l) == target; });
    if (listens || forward.origin() != Origin::Auto) continue;
    Decision decision = decide(policy(), container, forward.last_listener());
    if (decision.forward) plan[target] = {{}, nullptr, std::move(decision.treatment)};
  }
}

void ForwardTable::reconcile_settled() {
  TimePoint next = TimePoint::max();
  for (auto& [id, entry] : entries_) {
    if (entry.settled <= parts_.loop.now()) reconcile(entry);
    next = std::min(next, entry.settled);
  }
  if (next < TimePoint::max()) settle_over_.arm_at(next);
}

/// Those that are there stay; of the others the lowest ports come first.
void ForwardTable::limit(Entry& entry, Plan& plan) {
  const std::string& id = entry.reach->container().id;
  const auto exists = [&](const Target& t) { return forwards_.contains({id, t.protocol, t.port}); };
  std::size_t automatic = 0;
  for (auto it = forwards_.lower_bound({id, Protocol::Tcp, 0});
       it != forwards_.end() && it->first.container == id; ++it) {
    automatic += it->second.forward->origin() == Origin::Auto ? 1 : 0;
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
  const std::string& id = entry.reach->container().id;
  for (auto it = forwards_.lower_bound({id, Protocol::Tcp, 0});
       it != forwards_.end() && it->first.container == id;) {
    const auto next = std::next(it);
    const auto wanted = plan.find(target_of(it->first));
    if (wanted == plan.end()) {
      withdraw(it, "rule");  // the settings want it no longer
    } else if (misplaced(*it->second.forward, wanted->second.treatment)) {
      withdraw(it, "replaced");  // and made anew, where it is to be now
    } else {
      update(it->second, entry, wanted->second);
      if (lost_port(it->second)) withdraw(it, "replaced");  // and made anew, elsewhere
    }
    it = next;
  }
}

/// Whether a detected forward is to be elsewhere on the host: by another rule, [host], or name of
/// its container. One that was asked for stays.
bool ForwardTable::misplaced(const Forward& forward, const Treatment& now) {
  if (forward.origin() != Origin::Auto) return false;
  const Treatment& was = forward.treatment();
  return std::tie(was.host_port, was.require_host_port) !=
             std::tie(now.host_port, now.require_host_port) ||
         forward.tried_addresses() != host_addresses(forward.container_name(), now.bind);
}

/// It had a host port, and somebody else took it between bind and listen.
bool ForwardTable::lost_port(const Tied& tied) {
  return tied.announced && tied.forward->state() == ForwardState::Conflict;
}

void ForwardTable::update(Tied& tied, Entry& entry, const Wanted& wanted) {
  const bool treated = treat(*tied.forward, wanted.treatment);
  const bool changed = wanted.listeners.empty()
                           ? tied.forward->wait(settings_.host.linger)
                           : tied.forward->serve(entry.reach->dialer(tied.forward->key().protocol),
                                                 wanted.listeners);
  if (treated || changed) told_change(tied);
}

void ForwardTable::create_missing(Entry& entry, const Plan& plan) {
  const Container& container = entry.reach->container();
  std::vector<Tied*> added;
  for (const auto& [target, wanted] : plan) {
    const ForwardKey key{container.id, target.protocol, target.port};
    const bool lingered = wanted.listeners.empty() && wanted.request == nullptr;
    if (lingered || forwards_.contains(key)) continue;
    Forward& forward = create(key, wanted);
    forward.describe(container);
    bind(forward);
    if (wanted.listeners.empty()) {
      forward.wait(settings_.host.linger);
    } else {
      forward.serve(entry.reach->dialer(target.protocol), wanted.listeners);
    }
    added.push_back(&forwards_.at(key));
  }
  announce(added);
}

Forward& ForwardTable::create(const ForwardKey& key, const Wanted& wanted) {
  const ForwardRequest* request = wanted.request;
  const Origin origin = request == nullptr ? Origin::Auto : request->origin;
  std::string id = request != nullptr ? request->forward_id : fmt::format("f{}", next_id_++);
  ForwardObserver& self = *this;  // a private base: visible here, not in make_unique
  auto forward = std::make_unique<Forward>(parts_.relay, self, std::move(id), key, origin);
  (void)treat(*forward, wanted.treatment);
  ids_[forward->id()] = forward.get();
  return *(forwards_[key] = Tied{std::move(forward), false}).forward;
}

}  // namespace portfwd
