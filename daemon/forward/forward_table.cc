#include "forward/forward_table.h"

#include <fmt/format.h>

#include <algorithm>

namespace portfwd {

namespace {

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

}  // namespace

ForwardTable::ForwardTable(const Parts& parts, const Settings& settings, const State& state)
    : parts_(parts),
      host_sockets_(parts.loop),
      host_dialer_(parts.relay.context, host_sockets_),
      settings_(settings),
      ephemeral_(ephemeral_ports()),
      wishes_(parts.loop.clock()),
      draining_(parts.loop),
      work_(parts.loop, [this] { reconcile_dirty(); }),
      settle_over_(parts.loop, [this] { mark_settled(); }),
      forget_wishes_(parts.loop, [this] { forget_wishes(); }) {
  sticky_.restore(state.ports);
  addresses_.restore(state.addresses);
}

State ForwardTable::state() const {
  State state{.ports = sticky_.all(), .addresses = addresses_.all()};
  for (const ForwardRequest& request : requests_) {
    if (request.spec.persist) state.forwards.push_back(request.spec);
  }
  return state;
}

// ---- settings ----------------------------------------------------------------------------------

void ForwardTable::apply(const Settings& settings) {
  settings_ = settings;
  ephemeral_ = ephemeral_ports();
  declare_due_ = true;
  cursors_.clear();
  for (const auto& [id, entry] : entries_) {
    if (entry.reach->state() == ContainerState::Watched) note_published(entry.reach->container());
  }
  mark_all();
  retries_.expedite(parts_.loop.now());
  reconcile_dirty();  // who has the settings read again finds them applied
}

bool ForwardTable::treat(Forward& forward, const Treatment& treatment) {
  return forward.treat(treatment, port_settings(treatment));
}

ForwardPortSettings ForwardTable::port_settings(const Treatment& treatment) const {
  return {.hold = settings_.host.hold,
          .connect_timeout = settings_.host.connect_timeout,
          .max_connections = settings_.host.max_connections,
          .admission = {.restrict_to_user = treatment.restrict_to_user,
                        .allow_users = treatment.allow_users,
                        .allow_remote = treatment.allow_remote},
          .proxy_protocol = treatment.proxy_protocol};
}

/// A rule or a person may say where; else each container has its own address, or all have one.
std::vector<IpAddress> ForwardTable::host_addresses(const std::string& container,
                                                    const std::optional<Bind>& said) {
  if (!said && settings_.host.allocation == Allocation::PerContainer) {
    const auto given = addresses_.address_of(container);
    if (given.news) parts_.observer.on_state_changed();
    return {given.address};
  }
  const Bind bind = said.value_or(settings_.host.bind);
  if (bind.only) return {*bind.only};
  return {IpAddress::loopback(Family::V4), IpAddress::loopback(Family::V6)};
}

void ForwardTable::stop() {
  stopped_ = true;
  while (!forwards_.empty()) withdraw(forwards_.begin(), "daemon-stopped");
  draining_.limit(std::nullopt, settings_.host.drain);
  requests_.clear();
  dirty_.clear();
  changed_.clear();
  work_.disarm();
  settle_over_.disarm();
  forget_wishes_.disarm();
}

// ---- reading -----------------------------------------------------------------------------------

std::vector<ForwardInfo> ForwardTable::infos() const {
  std::vector<ForwardInfo> out;
  out.reserve(forwards_.size());
  for (const auto& [key, tied] : forwards_) out.push_back(tied.forward->info());
  return out;
}

std::optional<ForwardInfo> ForwardTable::find(std::string_view id) const {
  const Forward* forward = known(id);
  return forward == nullptr ? std::nullopt : std::optional(forward->info());
}

std::string ForwardTable::asked_by(std::string_view forward_id) const {
  const auto found = std::ranges::find(requests_, forward_id, &ForwardRequest::forward_id);
  return found == requests_.end() ? "" : found->asked_by;
}

std::vector<SeenListener> ForwardTable::seen(const Container& container,
                                             const Target& target) const {
  std::vector<SeenListener> out;
  const auto entry = entries_.find(container.id);
  if (entry == entries_.end()) return out;
  for (const Listener& listener : entry->second.reach->listeners()) {
    if (listener.target() != target) continue;
    const FirstSeen* first = entry->second.ages.find(listener);
    if (first == nullptr) continue;
    const Duration settle = decide(policy(), container, listener).settle;
    out.push_back({listener, first->wall, first->at + settle - parts_.loop.now()});
  }
  return out;
}

std::vector<std::string> ForwardTable::tried(std::string_view forward_id) const {
  std::vector<std::string> out;
  const Forward* forward = known(forward_id);
  if (forward == nullptr || forward->on_host() == nullptr) return out;
  for (const BindFailure& failure : forward->on_host()->failures()) {
    out.push_back(fmt::format("{}: {}", failure.address.text(), taken_sentence(failure)));
  }
  return out;
}

UdpInterest ForwardTable::udp_interest() const {
  std::vector<Port> asked;
  for (const auto& [key, tied] : forwards_) {
    const bool detected = tied.forward->origin() == Origin::Auto;
    if (tied.forward->protocol() == Protocol::Udp && !detected) {
      asked.push_back(key.target.port_number());
    }
  }
  return portfwd::udp_interest(settings_, ephemeral_, asked);
}

bool ForwardTable::suppressed(const Container& container, const Target& target) const {
  const auto entry = entries_.find(container.id);
  return entry != entries_.end() && entry->second.suppressed.contains(target);
}

const Forward* ForwardTable::known(std::string_view id) const {
  const auto found = ids_.find(id);
  return found == ids_.end() ? nullptr : found->second;
}

ForwardTable::Forwards::iterator ForwardTable::by_id(std::string_view id) {
  const Forward* forward = known(id);
  return forward == nullptr ? forwards_.end() : forwards_.find(forward->key());
}

// ---- containers --------------------------------------------------------------------------------

void ForwardTable::on_access_added(ContainerAccess& reach) {
  Entry& entry = entries_[reach.container().id];
  entry.reach = &reach;
  mark_changed(entry);
}

void ForwardTable::on_access_changed(ContainerAccess& reach) {
  mark_changed(entries_.at(reach.container().id));
}

void ForwardTable::on_listeners(ContainerAccess& reach) {
  mark(entries_.at(reach.container().id));
}

void ForwardTable::on_access_removed(ContainerAccess& reach, RemovalReason reason) {
  const std::string id = reach.container().id;
  if (changed_.erase(id) != 0) follow_facts(entries_.at(id));  // what it asked for outlives it
  release_all(id, reason);
  for (auto it = forwards_.lower_bound({id, {}});
       it != forwards_.end() && it->first.container == id;) {
    const auto next = std::next(it);
    withdraw(it, text_of(reason));
    it = next;
  }
  draining_.limit(id, settings_.host.drain);
  groups_.leave(entries_.at(id).group, id);
  entries_.erase(id);
  wishes_.gone(reach.container(), parts_.loop.now());
  forget_wishes();
  if (ContainerAccess* other = named(reach.container().name))
    on_access_changed(*other);  // may take over
}

// ---- comings and goings ------------------------------------------------------------------------

/// @param container null while it is away
Forward& ForwardTable::create_for(const ForwardRequest& request, const ForwardKey& key,
                                  const Container* container) {
  Forward& forward = create(key, {{}, &request, treatment_of(request, container, {})});
  if (container != nullptr) {
    forward.describe(*container);
  } else {
    forward.describe_missing(request.spec.container);
  }
  return forward;
}

/// Until a reconcile step gives it its listeners.
void ForwardTable::announce_waiting(const ForwardKey& key) {
  Tied& tied = forwards_.at(key);
  if (HostForward* forward = tied.forward->on_host()) (void)forward->wait(settings_.host.linger);
  if (tell_created(tied)) tell_added({&tied});
}

/// @return whether it listens, so that tell_added() must follow
bool ForwardTable::tell_created(const Tied& tied) {
  parts_.observer.on_forward_created(tied.forward->info());
  if (tied.forward->state() == ForwardState::Conflict) {
    told_change(tied);
    retry_later(*tied.forward);
  }
  return tied.forward->listening();
}

void ForwardTable::tell_added(const std::vector<Tied*>& bound) {
  std::uint32_t index = 0;
  for (Tied* tied : bound) {
    tied->announced = true;
    parts_.observer.on_port_added(tied->forward->info(), index++,
                                  static_cast<std::uint32_t>(bound.size()));
  }
}

void ForwardTable::tell_identification_changed() {
  for (const auto& [key, tied] : forwards_) told_change(tied);
}

void ForwardTable::told_change(const Tied& tied) {
  parts_.observer.on_forward_changed(tied.forward->info());
}

void ForwardTable::withdraw(Forwards::iterator tied, std::string_view reason) {
  remove(tied, reason, settings_.host.drain);
}

/// @param drain so long its live connections may go on
void ForwardTable::remove(Forwards::iterator tied, std::string_view reason, Duration drain) {
  auto node = forwards_.extract(tied);
  Forward& forward = *node.mapped().forward;
  ids_.erase(forward.id());
  retries_.remove(forward.id());
  if (const HostForward* host = forward.on_host()) {
    held_.remove(*host);
    cursors_.port_freed(host->host_port(), settings_.host.fallback_range);
  }
  if (forward.origin() == Origin::Auto) count_automatic(node.key().container, -1);
  const ForwardInfo info = forward.info();
  auto port = forward.withdraw(drain);
  if (drain == DrainingPorts::kNoLimit) {
    draining_.add_leftover(std::move(port), node.key().container);
  } else {
    draining_.add(std::move(port));
  }
  parts_.loop.retire(std::move(node.mapped().forward));  // its own timer may be what called
  parts_.observer.on_forward_destroyed(info);
  tell_removed(node.mapped(), info, reason);
}

void ForwardTable::tell_removed(Tied& tied, const ForwardInfo& info, std::string_view reason) {
  if (std::exchange(tied.announced, false)) parts_.observer.on_port_removed(info, reason);
}

/// Fewer than before: containers of the group that lack a forward may have one now.
void ForwardTable::count_automatic(const std::string& container_id, int change) {
  const auto entry = entries_.find(container_id);
  if (entry == entries_.end()) return;
  ForwardGroups::Group& group = groups_.at(entry->second.group);
  group.automatic += static_cast<std::size_t>(change);
  if (change > 0) return;
  for (const std::string& id : group.over) mark(entries_.at(id));
}

/// The listeners are looked at once more, since one that has just come back is not known yet. Its
/// listener closed by itself: clients that it had accepted are still served, as they would be
/// without us.
void ForwardTable::on_linger_over(HostForward& forward) {
  const auto entry = entries_.find(forward.key().container);
  if (entry != entries_.end() && forward.linger_for_a_look()) {
    return entry->second.reach->poll_now();
  }
  remove(forwards_.find(forward.key()), "listener-closed", DrainingPorts::kNoLimit);
}

void ForwardTable::on_listening_settled(Forward& forward, bool changed) {
  Tied& tied = forwards_.at(forward.key());
  if (changed) told_change(tied);
  if (!forward.listening()) return retry_later(forward);
  retries_.remove(forward.id());
  tell_added({&tied});
}

/// Its listener may have gone: look soon.
void ForwardTable::on_target_refused(ForwardPort& port, const Error& error) {
  const auto forward = by_id(port.id());
  if (forward == forwards_.end() || !forward->second.forward->owns(port)) return;
  HostForward* host = forward->second.forward->on_host();
  if (host == nullptr) return;  // its failed counter tells; no look at the container helps
  if (host->note_dial(error)) told_change(forward->second);
  const auto entry = entries_.find(forward->first.container);
  if (entry != entries_.end()) entry->second.reach->poll_now();
}

void ForwardTable::on_target_reached(ForwardPort& port) {
  const auto forward = by_id(port.id());
  if (forward == forwards_.end() || !forward->second.forward->owns(port)) return;
  HostForward* host = forward->second.forward->on_host();
  if (host != nullptr && host->note_dial(std::nullopt)) told_change(forward->second);
}

}  // namespace portfwd
