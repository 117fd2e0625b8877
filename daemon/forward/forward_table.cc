#include "forward/forward_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "base/unique_fd.h"
#include "kernel/netns.h"
#include "kernel/procfs.h"
#include "state/container_memory.h"

namespace portfwd {

namespace {

using Kind = Refusal::Kind;

std::string_view text_of(RemovalReason reason) {
  switch (reason) {
    case RemovalReason::Gone:
      return "container-gone";
    case RemovalReason::Detached:
      return "unforwarded";
    case RemovalReason::Replaced:
      return "replaced";
  }
  return "";
}

ForwardKey key_of(const std::string& container_id, const ForwardPlace& place) {
  return {container_id, place.first, place.second};
}

/// To be called when a container gets other lasting names, or its first. A forward for which
/// another host port or path is remembered under these names is withdrawn, so that it is created
/// again there; the places of the others are remembered under the names.
void move_to_remembered_places(ForwardSet& forwards, const std::string& container_id) {
  for (ListedForward* listed : forwards.of(container_id)) {
    const HostForward* forward = listed->forward->on_host();
    if (forward == nullptr) continue;
    HostPlaces& places = forward->places();
    if (places.remembered_elsewhere(*forward)) {
      forwards.withdraw(*listed, "replaced");  // created again at that place
    } else {
      places.remember(*forward);
    }
  }
}

/// Whether another program took its host port between bind(2) and listen(2). Such a forward is not
/// among the retries; one that found no port is.
bool lost_port(const Forward& forward, ForwardSet& forwards) {
  return forward.on_host() != nullptr && !forward.listening() &&
         !forwards.retries().contains(forward.id());
}

/// Those of the forwards that still exist, listen and are not announced.
std::vector<ListedForward*> listening_of(ForwardSet& forwards,
                                         const std::vector<std::string>& ids) {
  std::vector<ListedForward*> out;
  for (const std::string& id : ids) {
    ListedForward* listed = forwards.find_id(id);
    if (listed != nullptr && !listed->announced && listed->forward->listening())
      out.push_back(listed);
  }
  return out;
}

}  // namespace

ForwardTable::ForwardTable(const Parts& parts, const Settings& settings, const State& state)
    : parts_(parts),
      settings_(settings),
      ephemeral_(sysctl::ephemeral_ports()),
      forwards_({.loop = parts.loop,
                 .relay = parts.relay,
                 .holders = parts.holders,
                 .host_paths = parts.host_paths,
                 .notifier = parts.notifier,
                 .on_ports_changed = parts.on_state_changed,
                 .poll_container =
                     [this](const std::string& id) {
                       const auto entry = entries_.find(id);
                       if (entry == entries_.end()) return false;
                       entry->second.access->poll_now();
                       return true;
                     },
                 .on_automatic =
                     [this](const std::string& id, int change) {
                       if (!entries_.contains(id)) return;
                       for (const std::string& other : groups_.count(id, change))
                         queue_.mark(other);
                     },
                 .on_conflict = [this] { schedule(); }},
                settings_),
      requested_({.forwards = forwards_,
                  .policy = [this] { return policy(); },
                  .find_watched = [this](const std::string& name) { return find_watched(name); },
                  .mark = [this](const std::string& id) { queue_.mark(id); },
                  .on_persistent_changed = parts.on_state_changed},
                 settings_, parts.loop.clock()),
      queue_(parts.loop, [this] { reconcile_dirty(); }),
      settle_timer_(parts.loop, [this] { mark_settled(); }),
      metadata_expiry_(parts.loop, [this] { expire_metadata(); }) {
  forwards_.host_ports().restore(state);
  forwards_.host_paths().restore(state);
  forwards_.ids().restore(state);
}

State ForwardTable::state() const {
  State state;
  forwards_.host_ports().save(state);
  forwards_.host_paths().save(state);
  forwards_.save(state);
  requested_.book().save(state);
  return state;
}

void ForwardTable::apply_settings() {
  ephemeral_ = sysctl::ephemeral_ports();
  requested_.on_settings_changed();
  forwards_.host_ports().on_settings_changed();
  for (const auto& [id, entry] : entries_) {
    if (entry.access->state() == ContainerState::Watched) {
      requested_.note_published(entry.container());
    }
    queue_.mark(id);
  }
  forwards_.retries().expedite(parts_.loop.now());
  reconcile_dirty();  // the rest follows in the next turns
}

void ForwardTable::stop() {
  stopped_ = true;
  forwards_.withdraw_all("daemon-stopped");
  requested_.clear();
  queue_.stop();
  settle_timer_.disarm();
  metadata_expiry_.disarm();
}

// ---- reading -----------------------------------------------------------------------------------

SeenPort ForwardTable::seen(const Container& container, const Target& target) const {
  SeenPort out;
  const auto entry = entries_.find(container.id);
  if (entry == entries_.end()) return out;
  out.suppressed = entry->second.suppressed.contains(target);
  out.automatic = groups_.automatic(container.id);
  if (const auto most = most_of_kind(settings_, target)) {
    std::size_t there = 0;
    for (const ListedForward& listed : forwards_.all()) {
      const Forward& forward = *listed.forward;
      there += forward.key().container == container.id && forward.origin() == Origin::Auto &&
                       most_of_kind(settings_, forward.key().target)
                   ? 1
                   : 0;
    }
    out.full = there >= *most;
  }
  for (const Listener& listener : entry->second.access->listeners()) {
    if (listener.target() != target) continue;
    const FirstSeen* first = entry->second.ages.find(listener);
    if (first == nullptr) continue;
    const Duration settle = decide(policy(), container, listener).settle;
    out.listeners.push_back({listener, first->wall, first->at + settle - parts_.loop.now()});
  }
  return out;
}

// ---- containers --------------------------------------------------------------------------------

void ForwardTable::on_access_added(ContainerAccess& access) {
  Entry& entry = entries_[access.container().id];
  assert(entry.access == nullptr);
  entry.access = &access;
  queue_.mark_changed(access.container().id);
}

void ForwardTable::on_access_changed(ContainerAccess& access) {
  assert(entries_.contains(access.container().id));
  queue_.mark_changed(access.container().id);
}

void ForwardTable::on_listeners(ContainerAccess& access) {
  assert(entries_.contains(access.container().id));
  queue_.mark(access.container().id);
}

void ForwardTable::on_access_removed(ContainerAccess& access, RemovalReason reason) {
  const std::string id = access.container().id;
  if (queue_.forget_changed(id)) apply_facts(entries_.at(id));  // its requests may outlive it
  requested_.leave_container(access.container(), reason);
  for (ListedForward* listed : forwards_.of(id)) forwards_.withdraw(*listed, text_of(reason));
  forwards_.limit_leftovers(id);
  groups_.leave(id);
  entries_.erase(id);
  requested_.metadata_policy().gone(access.container(), parts_.loop.now());
  expire_metadata();
  if (ContainerAccess* other = find_watched(access.container().name)) {
    on_access_changed(*other);  // may adopt requests for the name
  }
}

// ---- once a turn -------------------------------------------------------------------------------

void ForwardTable::reconcile_dirty() {
  if (stopped_) return;
  const TimePoint began = parts_.loop.now();
  begin_turn();
  const auto turn_over = [this] {
    return forwards_.host_ports().turn_over() || queue_.turn_over();
  };
  apply_changes();
  for (std::size_t left = queue_.dirty(); left > 0; --left) {  // at least one
    const auto entry = entries_.find(queue_.pop());
    if (entry != entries_.end()) reconcile(entry->second);
    if (turn_over()) break;
  }
  while (!turn_over()) {
    const auto id = forwards_.retries().due(began);
    if (!id) break;
    retry(*id);
  }
  queue_.end_turn();
  schedule();
}

/// Schedules the next turn if anything is marked, else the next retry.
void ForwardTable::schedule() {
  const auto next = busy() ? std::optional(parts_.loop.now()) : forwards_.retries().next();
  if (next) queue_.schedule(*next);
}

void ForwardTable::begin_turn() {
  forwards_.host_ports().begin_turn(kBindsPerTurn);
  queue_.begin_turn();
}

/// Applies changed facts of containers, and the declarations by them and for them. It binds host
/// ports for declared forwards alone.
void ForwardTable::apply_changes() {
  const std::set<std::string> changed = queue_.extract_changed();
  std::set<std::string> projects;
  for (const std::string& id : changed) {
    Entry& entry = entries_.at(id);
    projects.insert(entry.project);
    apply_facts(entry);
    projects.insert(entry.project);
  }
  // The metadata of one container of a compose project may concern the ports of another.
  for (const auto& [id, entry] : entries_) {
    if (!entry.project.empty() && projects.contains(entry.project)) queue_.mark(id);
  }
  requested_.make_declared();
  for (const std::string& id : changed) {
    Entry& entry = entries_.at(id);
    std::vector<std::string> names = lasting_names(entry.container());
    if (names == entry.names) continue;
    entry.names = std::move(names);
    move_to_remembered_places(forwards_, id);
  }
}

void ForwardTable::apply_facts(Entry& entry) {
  const Container& container = entry.container();
  std::vector<const Container*> engines;
  for (const auto& [id, other] : entries_) {
    if (!other.container().engine_id.empty()) engines.push_back(&other.container());
  }
  const std::vector<ListedForward*> own = forwards_.of(container.id);
  const auto automatic = std::ranges::count_if(
      own, [](const ListedForward* listed) { return listed->forward->origin() == Origin::Auto; });
  groups_.join(container, engines, static_cast<std::size_t>(automatic));
  requested_.update_container(*entry.access);
  for (ListedForward* listed : forwards_.of(container.id)) {
    if (listed->forward->describe(container)) forwards_.notify_changed(*listed);
  }
  entry.project = container.project;
}

void ForwardTable::mark_settled() {
  TimePoint next = TimePoint::max();
  for (auto& [id, entry] : entries_) {
    if (entry.settled <= parts_.loop.now()) {
      queue_.mark(id);
    } else {
      next = std::min(next, entry.settled);
    }
  }
  if (next < TimePoint::max()) settle_timer_.arm_at(next);
}

void ForwardTable::retry(const std::string& id) {
  ListedForward* listed = forwards_.find_id(id);
  if (listed == nullptr || listed->forward->state() != ForwardState::Conflict) {
    return forwards_.retries().remove(id);
  }
  Forward& forward = *listed->forward;
  const auto entry = entries_.find(forward.key().container);
  if (forward.on_host() == nullptr) {  // on_update_complete() notifies
    forwards_.retries().add(id, parts_.loop.now());
    if (entry != entries_.end()) reconcile(entry->second);
    return;
  }
  const bool was_pending = forward.info().pending;
  if (!forwards_.bind(forward)) {
    if (was_pending) forwards_.notify_changed(*listed);  // why its place could not be made
    return;
  }
  if (entry != entries_.end()) reconcile(entry->second);
  ListedForward* now_there = forwards_.find_id(id);  // reconcile() may have removed it
  if (now_there == nullptr) return;
  forwards_.notify_changed(*now_there);
  if (now_there->forward->listening()) {
    forwards_.notify_added({&now_there, 1});
  } else if (!forwards_.retries().contains(id)) {
    forwards_.retries().add(id, parts_.loop.now());
  }
}

// ---- one container -----------------------------------------------------------------------------

void ForwardTable::reconcile(Entry& entry) {
  const TimePoint began = parts_.loop.now();
  const Plan plan = plan_for(entry);
  if (groups_.set_over(entry.container().id, plan.over_limit)) {
    parts_.notifier.notify(&ControlObserver::on_limit, entry.container(),
                           settings_.host.max_forwards);
  }
  update_existing(entry, plan);
  create_missing(entry, plan, std::max(parts_.loop.now() - began, kCreatingPerTurn));
}

Plan ForwardTable::plan_for(Entry& entry) {
  const auto& listeners = entry.access->listeners();
  std::erase_if(entry.suppressed, [&](const Target& target) {
    return std::ranges::none_of(listeners, [&](const Listener& l) { return l.target() == target; });
  });
  entry.ages.update(listeners, {parts_.loop.now(), parts_.loop.clock().wall()});
  PlanInput input{.policy = policy(),
                  .container = entry.container(),
                  .listeners = listeners,
                  .ages = entry.ages,
                  .suppressed = entry.suppressed,
                  .requests = requested_.book().of(entry.container().id),
                  .existing = {},
                  .automatic = groups_.automatic(entry.container().id),
                  .now = parts_.loop.now()};
  for (ListedForward* listed : forwards_.of(entry.container().id)) {
    const Forward& forward = *listed->forward;
    const bool detected = forward.origin() == Origin::Auto;
    input.existing.push_back({{forward.key().direction, forward.key().target},
                              detected ? &forward.on_host()->last_listener() : nullptr});
  }
  Plan made = plan(input);
  entry.settled = made.settled;
  if (made.settled < TimePoint::max() &&
      (!settle_timer_.armed() || made.settled < settle_timer_.when())) {
    settle_timer_.arm_at(made.settled);
  }
  return made;
}

void ForwardTable::update_existing(Entry& entry, const Plan& plan) {
  for (ListedForward* listed : forwards_.of(entry.container().id)) {
    const ForwardKey& key = listed->forward->key();
    const auto wanted = plan.forwards.find({key.direction, key.target});
    if (wanted == plan.forwards.end()) {
      forwards_.withdraw(*listed, "rule");
    } else if (forwards_.misplaced(*listed->forward, wanted->second.treatment)) {
      requested_.replace(*listed);
    } else {
      forwards_.update(*listed, *entry.access, wanted->second);
      if (lost_port(*listed->forward, forwards_))
        requested_.replace(*listed);  // at another host port
    }
  }
}

/// Creates the forwards of the plan that do not exist, for at most `time`. All forwards that one
/// poll of the listeners brought are announced together, once all exist; many ports need several
/// turns. `time` is at least the time that the plan took, so that planning again in each turn is at
/// most half of the work.
void ForwardTable::create_missing(Entry& entry, const Plan& plan, Duration time) {
  const Container& container = entry.container();
  const TimePoint until = parts_.loop.now() + time;
  bool created = false;
  for (const auto& [place, wanted] : plan.forwards) {
    const bool lingered = wanted.listeners.empty() && wanted.request == nullptr;
    const ForwardKey key = key_of(container.id, place);
    if (lingered || forwards_.contains(key)) continue;
    if (forwards_.host_ports().turn_over() || (created && parts_.loop.now() >= until))
      return queue_.mark(container.id);
    if (!wanted.listeners.empty()) end_forward_elsewhere(container, wanted.listeners.front());
    ListedForward& listed = forwards_.create(key, wanted);
    (void)listed.forward->describe(container);
    (void)forwards_.bind(*listed.forward);
    (void)listed.forward->update(*entry.access, wanted.listeners, settings_.host.linger);
    if (forwards_.notify_created(listed)) entry.to_announce.push_back(listed.forward->id());
    created = true;
  }
  forwards_.notify_added(listening_of(forwards_, std::exchange(entry.to_announce, {})));
}

/// A listener may have been that of another container in its namespace, until its own was found.
/// The forward there would linger for nothing, and hold the host port.
void ForwardTable::end_forward_elsewhere(const Container& container, const Listener& listener) {
  for (const auto& [id, entry] : entries_) {
    if (entry.container().netns != container.netns) continue;
    ListedForward* listed = forwards_.find({id, Direction::In, listener.target()});
    if (listed == nullptr || listed->forward->state() != ForwardState::Lingering) continue;
    const Listener& last = listed->forward->on_host()->last_listener();
    if (last.inode == 0 || last.inode != listener.inode || last.cookie != listener.cookie) continue;
    forwards_.end_lingering(*listed);
  }
}

// ---- requests ----------------------------------------------------------------------------------

Answer<std::string> ForwardTable::add(ContainerAccess* access, ForwardRequest request) {
  if (stopped_) {
    return refuse(Kind::Failed, "portfwd is shutting down; retry after it restarts");
  }
  begin_turn();
  apply_changes();  // the container has adopted the requests that wait for it
  const bool may_refuse = request.origin == Origin::Manual && !request.restored &&
                          request.spec.direction == Direction::Reverse;
  Answer<std::string> id = requested_.insert(access, std::move(request));
  if (access != nullptr) reconcile(entries_.at(access->container().id));
  ListedForward* made = id && may_refuse ? forwards_.find_id(*id) : nullptr;
  if (made == nullptr || made->forward->state() != ForwardState::Conflict) return id;
  const std::string because = made->forward->info().reason;  // the daemon cannot open a port inside
  requested_.end(*made, "unforwarded");
  return refuse(Kind::Inaccessible, because);
}

Answer<void> ForwardTable::remove(std::string_view forward_id) {
  ListedForward* found = forwards_.find_id(forward_id);
  if (found == nullptr) {
    return refuse(Kind::NoSuchForward, fmt::format("there is no forward \"{}\"", forward_id));
  }
  const ForwardKey& key = found->forward->key();
  if (const auto entry = entries_.find(key.container);
      entry != entries_.end() && key.direction == Direction::In) {
    entry->second.suppressed.insert(key.target);
  }
  requested_.dismiss(*found);
  return {};
}

// ---- declarations ------------------------------------------------------------------------------

void ForwardTable::declare() {
  requested_.set_due();
  begin_turn();
  apply_changes();
}

/// Forgets the requests of containers that were not made again in time.
void ForwardTable::expire_metadata() {
  if (requested_.metadata_policy().forget(parts_.loop.now())) requested_.set_due();
  for (const auto& [id, entry] : entries_) {
    if (!entry.project.empty()) queue_.mark(id);  // a container of the project may be gone
  }
  schedule();
  if (const auto next = requested_.metadata_policy().forget_at()) metadata_expiry_.arm_at(*next);
}

ContainerAccess* ForwardTable::find_watched(const std::string& container) const {
  const auto found = std::ranges::find_if(entries_, [&](const auto& entry) {
    const ContainerAccess& access = *entry.second.access;
    return access.container().name == container && access.state() == ContainerState::Watched;
  });
  return found == entries_.end() ? nullptr : found->second.access;
}

// --- groups of containers ------------------------------------------------------------------------

namespace {

/// Whether the processes of `container` are in the cgroup of `outer`, or below it.
bool in_cgroup_of(const Container& container, const Container& outer) {
  if (container.cgroup_id != 0 && container.cgroup_id == outer.cgroup_id) return true;
  if (outer.cgroup.empty()) return false;
  return container.cgroup == outer.cgroup || container.cgroup.starts_with(outer.cgroup + "/");
}

std::string group_of_engine(const Container& container) {
  return fmt::format("engine {}", container.engine_id);
}

}  // namespace

std::string group_of(const Container& container, std::span<const Container* const> engines) {
  if (!container.engine_id.empty()) return group_of_engine(container);
  const auto outer = std::ranges::find_if(
      engines, [&](const Container* other) { return in_cgroup_of(container, *other); });
  if (outer != engines.end()) return group_of_engine(**outer);
  const auto gate = container.netns_fd.valid() ? entry_userns_of(container.netns_fd.get())
                                               : Result<EntryUserns>(fail("no namespace", ENOENT));
  if (gate && gate->userns.valid()) return fmt::format("user namespace {}", gate->inode);
  return fmt::format("container {}", container.id);
}

ForwardGroups::Group& ForwardGroups::group_of_member(const std::string& container_id) {
  const auto key = keys_.find(container_id);
  assert(key != keys_.end());
  return groups_.at(key->second);
}

void ForwardGroups::join(const Container& container, std::span<const Container* const> engines,
                         std::size_t automatic) {
  std::string key = group_of(container, engines);
  if (const auto known = keys_.find(container.id); known != keys_.end()) {
    if (known->second == key) return;
    take_out(container.id, automatic);
  }
  Group& group = groups_[key];
  group.members.insert(container.id);
  group.automatic += automatic;
  keys_[container.id] = std::move(key);
}

void ForwardGroups::leave(const std::string& container_id) {
  take_out(container_id, 0);
  keys_.erase(container_id);
}

void ForwardGroups::take_out(const std::string& container_id, std::size_t automatic) {
  Group& group = group_of_member(container_id);
  assert(group.automatic >= automatic);
  group.automatic -= automatic;
  group.members.erase(container_id);
  group.over.erase(container_id);
  if (group.members.empty()) groups_.erase(keys_.at(container_id));
}

std::vector<std::string> ForwardGroups::count(const std::string& container_id, int change) {
  Group& group = group_of_member(container_id);
  assert(change > 0 || group.automatic > 0);
  group.automatic += static_cast<std::size_t>(change);
  if (change > 0) return {};
  return {group.over.begin(), group.over.end()};
}

std::size_t ForwardGroups::automatic(const std::string& container_id) const {
  const auto key = keys_.find(container_id);
  return key == keys_.end() ? 0 : groups_.at(key->second).automatic;
}

bool ForwardGroups::set_over(const std::string& container_id, bool over) {
  Group& group = group_of_member(container_id);
  if (!over) {
    group.over.erase(container_id);
    return false;
  }
  const bool newly_over = group.over.empty();
  group.over.insert(container_id);
  return newly_over;
}

}  // namespace portfwd
