// The work of the ForwardTable that is done once a turn: first the facts of containers that are new
// or changed, then what is declared, then for each marked container its desired forwards against
// the actual ones, then the conflicts that are due.
#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "forward/allocation.h"
#include "forward/forward_table.h"

namespace portfwd {

// ---- marks -------------------------------------------------------------------------------------

/// Its listeners, or what decides on them, changed.
void ForwardTable::mark(const Entry& entry) {
  dirty_.mark(entry.reach->container().id);
  schedule();
}

/// It is new, or has another name, project, labels or state.
void ForwardTable::mark_changed(const Entry& entry) {
  changed_.insert(entry.reach->container().id);
  mark(entry);
}

bool ForwardTable::marked() const {
  return !dirty_.empty() || !changed_.empty() || declare_due_;
}

void ForwardTable::mark_all() {
  for (const auto& [id, entry] : entries_) mark(entry);
}

/// What one container of a compose project asks for may concern another one's ports.
void ForwardTable::mark_projects(const std::set<std::string>& projects) {
  for (const auto& [id, entry] : entries_) {
    if (!entry.project.empty() && projects.contains(entry.project)) mark(entry);
  }
}

void ForwardTable::mark_settled() {
  TimePoint next = TimePoint::max();
  for (auto& [id, entry] : entries_) {
    if (entry.settled <= parts_.loop.now()) {
      mark(entry);
    } else {
      next = std::min(next, entry.settled);
    }
  }
  if (next < TimePoint::max()) settle_over_.arm_at(next);
}

/// The next turn if something is marked, else the next conflict that is due. A new connection needs
/// several turns, so that after work the loop is everybody else's for as long as it took.
void ForwardTable::schedule() {
  if (stopped_) return;
  const auto next = marked() ? std::optional(parts_.loop.now()) : retries_.next();
  if (!next) return;
  const TimePoint when = std::max(*next, rest_until_);
  if (!work_.armed() || work_.when() > when) work_.arm_at(when);
}

// ---- once a turn -------------------------------------------------------------------------------

void ForwardTable::reconcile_dirty() {
  if (stopped_) return;
  const TimePoint began = parts_.loop.now();
  begin_turn();
  follow_changes();
  for (std::size_t left = dirty_.size(); left > 0 && !turn_over(); --left) {
    const auto entry = entries_.find(dirty_.take());
    if (entry != entries_.end()) reconcile(entry->second);
  }
  retry_conflicts();
  const TimePoint done = parts_.loop.now();
  rest_until_ = done + std::min(done - began, kLongestRest);
  schedule();
}

void ForwardTable::begin_turn() {
  budget_ = {.until = parts_.loop.now() + kTimePerTurn};
}

bool ForwardTable::turn_over() const {
  return budget_.binds == 0 || parts_.loop.now() >= budget_.until;
}

/// Takes over what is new about containers, and what is declared by them and for them. It binds no
/// port but those of what is declared.
void ForwardTable::follow_changes() {
  const std::set<std::string> changed = std::exchange(changed_, {});
  std::set<std::string> projects;
  for (const std::string& id : changed) {
    Entry& entry = entries_.at(id);
    projects.insert(entry.project);
    follow_facts(entry);
    projects.insert(entry.project);
  }
  mark_projects(projects);
  if (std::exchange(declare_due_, false)) {
    make_declared();
    treat_waiting();
  }
  for (const std::string& id : changed) follow_names(entries_.at(id));
}

void ForwardTable::follow_facts(Entry& entry) {
  const Container& container = entry.reach->container();
  join_group(entry);
  release_misnamed(container);
  if (entry.reach->state() == ContainerState::Watched) {  // else it is perhaps another user's
    inherit(container);
    note_published(container);
    adopt(entry);
    if (wishes_.update(container)) declare_due_ = true;
  }
  for (auto it = forwards_.lower_bound({container.id, {}});
       it != forwards_.end() && it->first.container == container.id; ++it) {
    if (it->second.forward->describe(container)) told_change(it->second);
  }
  entry.project = container.project;
}

void ForwardTable::join_group(Entry& entry) {
  const Container& container = entry.reach->container();
  std::vector<const Container*> engines;
  for (const auto& [id, other] : entries_) {
    const Container& known = other.reach->container();
    if (!known.engine_id.empty()) engines.push_back(&known);
  }
  std::string group = group_of(container, engines);
  if (group == entry.group) return;
  std::size_t automatic = 0;
  for (auto it = forwards_.lower_bound({container.id, {}});
       it != forwards_.end() && it->first.container == container.id; ++it) {
    automatic += it->second.forward->origin() == Origin::Auto ? 1 : 0;
  }
  if (!entry.group.empty()) {
    groups_.at(entry.group).automatic -= automatic;
    groups_.leave(entry.group, container.id);
  }
  entry.group = std::move(group);
  ForwardGroups::Group& joined = groups_.at(entry.group);
  joined.members.insert(container.id);
  joined.automatic += automatic;
}

void ForwardTable::retry_conflicts() {
  const TimePoint now = parts_.loop.now();
  while (!turn_over()) {
    const auto id = retries_.due(now);
    if (!id) return;
    retry(*id);
  }
}

void ForwardTable::retry(const std::string& id) {
  const auto tied = by_id(id);
  if (tied == forwards_.end() || tied->second.forward->state() != ForwardState::Conflict) {
    return retries_.remove(id);
  }
  if (!bind(*tied->second.forward)) return;
  if (const auto entry = entries_.find(tied->first.container); entry != entries_.end()) {
    reconcile(entry->second);
  }
  const auto now_there = by_id(id);  // the reconcile step may have withdrawn it
  if (now_there == forwards_.end()) return;
  told_change(now_there->second);
  if (now_there->second.forward->state() == ForwardState::Conflict) {
    retry_later(*now_there->second.forward);
  } else {
    tell_added({&now_there->second});
  }
}

/// For a forward that has lost its host port, unless its search for one goes on.
void ForwardTable::retry_later(const Forward& forward) {
  if (!retries_.contains(forward.id())) retries_.add(forward.id(), parts_.loop.now());
  schedule();
}

// ---- one container -----------------------------------------------------------------------------

void ForwardTable::reconcile(Entry& entry) {
  Plan plan = plan_of(entry);
  limit(entry, plan);
  update_existing(entry, plan);
  create_missing(entry, plan);
}

ForwardTable::Plan ForwardTable::plan_of(Entry& entry) {
  const auto& listeners = entry.reach->listeners();
  std::map<Target, std::vector<Listener>> by_target;
  for (const Listener& l : listeners) by_target[l.target()].push_back(l);
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
    plan[request.spec.target] = {std::move(meant), &request, std::move(treatment)};
  }
  return plan;
}

/// Those listeners of one port that are to be forwarded now. One that comes back to its forward has
/// not to settle again.
ForwardTable::Wanted ForwardTable::detected(Entry& entry, std::span<const Listener> group) {
  const Container& container = entry.reach->container();
  const Target target = group.front().target();
  const bool exists = forwards_.contains({container.id, target});
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
  for (auto it = forwards_.lower_bound({container.id, {}});
       it != forwards_.end() && it->first.container == container.id; ++it) {
    const Forward& forward = *it->second.forward;
    const Target& target = it->first.target;
    const bool listens =
        std::ranges::any_of(listeners, [&](const Listener& l) { return l.target() == target; });
    if (listens || forward.origin() != Origin::Auto) continue;
    Decision decision = decide(policy(), container, forward.last_listener());
    if (decision.forward) plan[target] = {{}, nullptr, std::move(decision.treatment)};
  }
}

/// Those that are there stay; of the others the lowest ports come first.
void ForwardTable::limit(Entry& entry, Plan& plan) {
  const std::string& id = entry.reach->container().id;
  ForwardGroups::Group& group = groups_.at(entry.group);
  const auto exists = [&](const Target& t) { return forwards_.contains({id, t}); };
  std::size_t automatic = group.automatic;
  const std::size_t before = plan.size();
  std::erase_if(plan, [&](const auto& wanted) {
    if (wanted.second.request != nullptr || exists(wanted.first)) return false;
    return ++automatic > settings_.host.max_forwards;
  });
  if (plan.size() == before) {
    group.over.erase(id);
    return;
  }
  if (group.over.empty()) {
    parts_.observer.on_limit(entry.reach->container(), settings_.host.max_forwards);
  }
  group.over.insert(id);
}

void ForwardTable::update_existing(Entry& entry, const Plan& plan) {
  const std::string& id = entry.reach->container().id;
  for (auto it = forwards_.lower_bound({id, {}});
       it != forwards_.end() && it->first.container == id;) {
    const auto next = std::next(it);
    const auto wanted = plan.find(it->first.target);
    if (wanted == plan.end()) {
      withdraw(it, "rule");  // the settings want it no longer
    } else if (misplaced(*it->second.forward, wanted->second.treatment)) {
      withdraw_to_replace(it);  // where it is to be now
    } else {
      update(it->second, entry, wanted->second);
      if (lost_port(it->second)) withdraw_to_replace(it);  // at another host port
    }
    it = next;
  }
}

/// Whether a detected forward is to be elsewhere on the host: by another rule, [host], or name of
/// its container. One that was asked for stays, unless it is for other machines and may be no more.
bool ForwardTable::misplaced(const Forward& forward, const Treatment& now) {
  if (forward.origin() != Origin::Auto) {
    return !now.allow_remote && forward.state() != ForwardState::Conflict &&
           remote_address(forward.tried_addresses()) != nullptr;
  }
  const Treatment& was = forward.treatment();
  return std::tie(was.host_port, was.require_host_port) !=
             std::tie(now.host_port, now.require_host_port) ||
         forward.tried_addresses() != host_addresses(forward.container_name(), now.bind);
}

/// It had a host port, and somebody else took it between bind and listen.
bool ForwardTable::lost_port(const Tied& tied) {
  return tied.announced && tied.forward->state() == ForwardState::Conflict;
}

/// The next step creates another one; ids are never used twice.
void ForwardTable::withdraw_to_replace(Forwards::iterator tied) {
  const auto request =
      std::ranges::find(requests_, tied->second.forward->id(), &ForwardRequest::forward_id);
  withdraw(tied, "replaced");
  if (request != requests_.end()) request->forward_id = fmt::format("f{}", next_id_++);
}

void ForwardTable::update(Tied& tied, Entry& entry, const Wanted& wanted) {
  const bool treated = treat(*tied.forward, wanted.treatment);
  const bool changed =
      wanted.listeners.empty()
          ? tied.forward->wait(settings_.host.linger)
          : tied.forward->serve(entry.reach->dialer(tied.forward->protocol()), wanted.listeners);
  if (treated || changed) told_change(tied);
}

/// What one look showed new is told together, so a container waits for a turn that has room for all
/// that it lacks, or for a whole turn.
void ForwardTable::create_missing(Entry& entry, const Plan& plan) {
  const Container& container = entry.reach->container();
  std::vector<Plan::const_iterator> missing;
  for (auto it = plan.begin(); it != plan.end(); ++it) {
    const bool lingered = it->second.listeners.empty() && it->second.request == nullptr;
    const ForwardKey key{container.id, it->first};
    if (!lingered && !forwards_.contains(key)) missing.push_back(it);
  }
  if (missing.size() > budget_.binds && budget_.binds < kBindsPerTurn) return mark(entry);
  std::vector<Tied*> added;
  for (const auto& it : missing) {
    if (budget_.binds == 0) {
      mark(entry);
      break;
    }
    const auto& [target, wanted] = *it;
    const ForwardKey key{container.id, target};
    Forward& forward = create(key, wanted);
    forward.describe(container);
    bind(forward);
    if (wanted.listeners.empty()) {
      forward.wait(settings_.host.linger);
    } else {
      forward.serve(entry.reach->dialer(forward.protocol()), wanted.listeners);
    }
    Tied& tied = forwards_.at(key);
    if (tell_created(tied)) added.push_back(&tied);
  }
  tell_added(added);
}

Forward& ForwardTable::create(const ForwardKey& key, const Wanted& wanted) {
  const ForwardRequest* request = wanted.request;
  const Origin origin = request == nullptr ? Origin::Auto : request->origin;
  std::string id = request != nullptr ? request->forward_id : fmt::format("f{}", next_id_++);
  ForwardObserver& self = *this;  // a private base: visible here, not in make_unique
  auto forward = std::make_unique<Forward>(parts_.relay, self, std::move(id), key, origin);
  (void)treat(*forward, wanted.treatment);
  ids_[forward->id()] = forward.get();
  if (origin == Origin::Auto) count_automatic(key.container, 1);
  return *(forwards_[key] = Tied{std::move(forward), false}).forward;
}

}  // namespace portfwd
