// The work of the ForwardTable that is done once a turn: first the facts of containers that are new
// or changed, then what is declared, then for each marked container its desired forwards against
// the actual ones, then the conflicts that are due.
#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <tuple>

#include "forward/allocation.h"
#include "forward/forward_table.h"
#include "forward/inside_forward.h"

namespace portfwd {

namespace {

ForwardKey key_of(const std::string& container, const std::pair<Direction, Target>& place) {
  return {container, place.first, place.second};
}

}  // namespace

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
  if (tied->second.forward->on_host() == nullptr) {
    retries_.add(id, parts_.loop.now());  // until on_listening_settled()
    return reconcile(entries_.at(tied->first.container));
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
  const Plan plan = plan_of(entry);
  update_existing(entry, plan);
  create_missing(entry, plan);
}

/// What a person, the configuration or the container asks for comes first. Of what is detected,
/// forwards that are there stay; of new ones the lowest ports come first, up to max_forwards.
ForwardTable::Plan ForwardTable::plan_of(Entry& entry) {
  const std::string& id = entry.reach->container().id;
  const auto& listeners = entry.reach->listeners();
  const auto target_of = [](const Listener* l) { return l->target(); };
  std::vector<const Listener*> by_target;
  for (const Listener& l : listeners) by_target.push_back(&l);
  std::ranges::stable_sort(by_target, {}, target_of);
  std::erase_if(entry.suppressed, [&](const Target& t) {
    return !std::ranges::binary_search(by_target, t, {}, target_of);
  });
  entry.ages.update(listeners, {parts_.loop.now(), parts_.loop.clock().wall()});
  entry.settled = TimePoint::max();

  Plan plan = requested(entry);
  std::size_t automatic = groups_.at(entry.group).automatic;
  bool over_limit = false;
  for (std::span<const Listener*const> rest(by_target), group; !rest.empty();) {
    const Target target = rest.front()->target();
    const auto end = std::ranges::upper_bound(rest, target, {}, target_of);
    group = rest.first(static_cast<std::size_t>(end - rest.begin()));
    rest = rest.subspan(group.size());
    const std::pair place(Direction::In, target);
    if (entry.suppressed.contains(target) || plan.contains(place)) continue;
    Wanted wanted = detected(entry, group);
    if (wanted.listeners.empty()) continue;
    const bool exists = forwards_.contains(key_of(id, place));
    if (!exists && ++automatic > settings_.host.max_forwards) {
      over_limit = true;
    } else {
      plan[place] = std::move(wanted);
    }
  }
  note_limit(entry, over_limit);
  if (entry.settled < TimePoint::max() &&
      (!settle_over_.armed() || entry.settled < settle_over_.when())) {
    settle_over_.arm_at(entry.settled);
  }
  add_lingering(entry, plan);
  return plan;
}

ForwardTable::Plan ForwardTable::requested(const Entry& entry) const {
  const Container& container = entry.reach->container();
  Plan plan;
  for (const ForwardRequest& request : requests_) {
    if (request.container_id != container.id) continue;
    auto meant = listeners_meant(request, entry.reach->listeners());
    Treatment treatment = treatment_of(request, &container, meant);
    plan[{request.spec.direction, request.spec.target}] = {std::move(meant), &request,
                                                           std::move(treatment)};
  }
  return plan;
}

/// Those listeners of one port that are to be forwarded now. One that comes back to its forward has
/// not to settle again.
ForwardTable::Wanted ForwardTable::detected(Entry& entry, std::span<const Listener* const> group) {
  const Container& container = entry.reach->container();
  const Target target = group.front()->target();
  const bool exists = forwards_.contains({container.id, Direction::In, target});
  Wanted wanted;
  for (const Listener* each : group) {
    const Listener& listener = *each;
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
    const HostForward* forward = it->second.forward->on_host();
    if (forward == nullptr || forward->origin() != Origin::Auto) continue;
    const Target& target = it->first.target;
    const bool listens =
        std::ranges::any_of(listeners, [&](const Listener& l) { return l.target() == target; });
    if (listens) continue;
    Decision decision = decide(policy(), container, forward->last_listener());
    if (decision.forward)
      plan[{Direction::In, target}] = {{}, nullptr, std::move(decision.treatment)};
  }
}

/// @param over the container has more ports than may be forwarded
void ForwardTable::note_limit(const Entry& entry, bool over) {
  const Container& container = entry.reach->container();
  ForwardGroups::Group& group = groups_.at(entry.group);
  if (!over) {
    group.over.erase(container.id);
    return;
  }
  if (group.over.empty()) parts_.observer.on_limit(container, settings_.host.max_forwards);
  group.over.insert(container.id);
}

void ForwardTable::update_existing(Entry& entry, const Plan& plan) {
  const std::string& id = entry.reach->container().id;
  for (auto it = forwards_.lower_bound({id, {}});
       it != forwards_.end() && it->first.container == id;) {
    const auto next = std::next(it);
    const auto wanted = plan.find({it->first.direction, it->first.target});
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
bool ForwardTable::misplaced(Forward& tied, const Treatment& now) {
  if (tied.on_host() == nullptr) return false;
  const HostForward& forward = *tied.on_host();
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
  return tied.forward->on_host() != nullptr && tied.announced && !tied.forward->listening();
}

/// The next step creates another one; ids are never used twice.
void ForwardTable::withdraw_to_replace(Forwards::iterator tied) {
  const auto request =
      std::ranges::find(requests_, tied->second.forward->id(), &ForwardRequest::forward_id);
  withdraw(tied, "replaced");
  if (request != requests_.end()) request->forward_id = next_id(request->spec.direction);
}

void ForwardTable::update(Tied& tied, Entry& entry, const Wanted& wanted) {
  const bool treated = treat(*tied.forward, wanted.treatment);
  const bool changed = tied.forward->update(*entry.reach, wanted.listeners, settings_.host.linger);
  if (treated || changed) told_change(tied);
}

/// What one look showed new is told together, so a container waits for a turn that has room for all
/// that it lacks, or for a whole turn.
void ForwardTable::create_missing(Entry& entry, const Plan& plan) {
  const Container& container = entry.reach->container();
  std::vector<Plan::const_iterator> missing;
  for (auto it = plan.begin(); it != plan.end(); ++it) {
    const bool lingered = it->second.listeners.empty() && it->second.request == nullptr;
    if (!lingered && !forwards_.contains(key_of(container.id, it->first))) missing.push_back(it);
  }
  if (missing.size() > budget_.binds && budget_.binds < kBindsPerTurn) return mark(entry);
  std::vector<Tied*> added;
  for (const auto& it : missing) {
    if (budget_.binds == 0) {
      mark(entry);
      break;
    }
    const auto& [place, wanted] = *it;
    const ForwardKey key = key_of(container.id, place);
    Forward& forward = create(key, wanted);
    forward.describe(container);
    bind(forward);
    (void)forward.update(*entry.reach, wanted.listeners, settings_.host.linger);
    Tied& tied = forwards_.at(key);
    if (tell_created(tied)) added.push_back(&tied);
  }
  tell_added(added);
}

Forward& ForwardTable::create(const ForwardKey& key, const Wanted& wanted) {
  assert(!forwards_.contains(key));
  auto forward = make_forward(key, wanted.request);
  (void)treat(*forward, wanted.treatment);
  ids_[forward->id()] = forward.get();
  if (forward->origin() == Origin::Auto) count_automatic(key.container, 1);
  return *(forwards_[key] = Tied{std::move(forward), false}).forward;
}

/// @param request null for a detected one
std::unique_ptr<Forward> ForwardTable::make_forward(const ForwardKey& key,
                                                    const ForwardRequest* request) {
  ForwardObserver& self = *this;  // a private base: visible here, not in make_unique
  if (request == nullptr) {
    return std::make_unique<HostForward>(parts_.relay, self, next_id(key.direction), key,
                                         Origin::Auto);
  }
  if (key.direction == Direction::In) {
    return std::make_unique<HostForward>(parts_.relay, self, request->forward_id, key,
                                         request->origin);
  }
  const Port host_port = request->spec.host_port.value_or(key.target.port_number());
  return std::make_unique<InsideForward>(parts_.relay, self, request->forward_id, key,
                                         request->origin, host_dialer_, host_port);
}

std::string ForwardTable::next_id(Direction direction) {
  return fmt::format("{}{}", direction == Direction::In ? 'f' : 'r', next_id_++);
}

}  // namespace portfwd
