#include "forward/forward_set.h"

#include <fmt/format.h>

#include <cassert>
#include <charconv>

#include "forward/forward.h"

namespace portfwd {

ForwardSet::ForwardSet(Parts parts, const Settings& settings)
    : parts_(std::move(parts)),
      settings_(settings),
      host_sockets_(parts_.relay.context),
      host_dialer_(parts_.relay.context, host_sockets_),
      host_ports_(settings, parts_.holders, parts_.on_ports_changed),
      draining_(parts_.loop) {}

// ---- ids ---------------------------------------------------------------------------------------

namespace {

char id_prefix(Direction direction) {
  return direction == Direction::In ? 'f' : 'r';
}

/// The number in an id that ForwardIds::next() made; 0 for any other text.
std::uint64_t number_of(const KnownForward& forward) {
  const std::string& id = forward.id;
  if (id.empty() || id.front() != id_prefix(forward.direction)) return 0;
  std::uint64_t number = 0;
  const char* const end = id.data() + id.size();
  const auto [stop, error] = std::from_chars(id.data() + 1, end, number);
  return error == std::errc() && stop == end && number < Instance::kMostNumber ? number : 0;
}

}  // namespace

void ForwardIds::restore(const State& state) {
  assert(next_ == 1 && former_.empty());
  next_ = state.instance.next_forward;
  for (const KnownForward& f : state.forward_ids) {
    const std::uint64_t number = number_of(f);
    if (number == 0) continue;
    next_ = std::max(next_, number + 1);
    if (!former_.try_emplace(f.id, f).second) continue;
    by_key_.try_emplace({f.container, f.direction, f.target}, f.id);
    if (f.requested) by_key_.try_emplace({"?" + f.container_name, f.direction, f.target}, f.id);
  }
}

std::string ForwardIds::next(Direction direction) {
  return fmt::format("{}{}", id_prefix(direction), next_++);
}

std::string ForwardIds::id_for(const ForwardKey& key) {
  const auto former = by_key_.find(key);
  if (former == by_key_.end() || former_.erase(former->second) == 0) return next(key.direction);
  return former->second;
}

void ForwardSet::save(State& state) const {
  std::vector<KnownForward>& out = state.forward_ids;
  out.clear();
  for (const TiedForward& tied : all()) {
    if (out.size() == State::kMostForwards) break;
    const Forward& forward = *tied.forward;
    const ForwardKey& key = forward.key();
    const bool requested = forward.origin() != Origin::Auto;
    out.push_back({.id = forward.id(),
                   .container = key.container,
                   .container_name = requested ? forward.container_name() : "",
                   .target = key.target,
                   .direction = key.direction,
                   .requested = requested});
  }
  for (const KnownForward& former : ids_.former()) {
    if (out.size() == State::kMostForwards) break;
    out.push_back(former);
  }
  state.instance.next_forward = ids_.next_number();
}

// ---- reading -----------------------------------------------------------------------------------

TiedForward* ForwardIndex::find(const ForwardKey& key) {
  const auto found = forwards_.find(key);
  return found == forwards_.end() ? nullptr : &found->second;
}

const Forward* ForwardIndex::find_id(std::string_view id) const {
  const auto found = ids_.find(id);
  return found == ids_.end() ? nullptr : found->second;
}

TiedForward* ForwardIndex::find_id(std::string_view id) {
  const Forward* forward = std::as_const(*this).find_id(id);
  return forward == nullptr ? nullptr : find(forward->key());
}

std::vector<TiedForward*> ForwardIndex::of(const std::string& container_id) {
  std::vector<TiedForward*> out;
  for (auto it = forwards_.lower_bound({container_id, {}, {}});
       it != forwards_.end() && it->first.container == container_id; ++it) {
    out.push_back(&it->second);
  }
  return out;
}

std::vector<ForwardInfo> ForwardIndex::infos() const {
  std::vector<ForwardInfo> out;
  out.reserve(forwards_.size());
  for (const TiedForward& tied : all()) out.push_back(tied.forward->info());
  return out;
}

TiedForward& ForwardIndex::add(std::unique_ptr<Forward> forward) {
  const auto [at, fresh] = forwards_.try_emplace(forward->key());
  assert(fresh && !ids_.contains(forward->id()));
  ids_[forward->id()] = forward.get();
  at->second.forward = std::move(forward);
  return at->second;
}

ForwardIndex::Map::node_type ForwardIndex::extract(const ForwardKey& key) {
  auto node = forwards_.extract(key);
  assert(!node.empty());
  ids_.erase(node.mapped().forward->id());
  return node;
}

TiedForward& ForwardIndex::rekey(const ForwardKey& from, ForwardKey to) {
  assert(!forwards_.contains(to));
  auto node = forwards_.extract(from);
  assert(!node.empty());
  node.mapped().forward->rekey(to);
  node.key() = std::move(to);
  return forwards_.insert(std::move(node)).position->second;
}

namespace {

/// The forward of a port; null if it was removed and the port still drains.
TiedForward* owner_of(const ForwardPort& port, ForwardIndex& forwards) {
  TiedForward* tied = forwards.find_id(port.id());
  return tied != nullptr && tied->forward->owns(port) ? tied : nullptr;
}

ForwardPortSettings port_settings(const Settings& settings, const Treatment& treatment) {
  return {.hold = settings.host.hold,
          .connect_timeout = settings.host.connect_timeout,
          .max_connections = settings.host.max_connections,
          .admission = {.restrict_to_user = treatment.restrict_to_user,
                        .allow_users = treatment.allow_users,
                        .allow_remote = treatment.allow_remote},
          .proxy_protocol = treatment.proxy_protocol};
}

}  // namespace

// ---- changing ----------------------------------------------------------------------------------

/// @param request null for a detected forward
std::unique_ptr<Forward> ForwardSet::make(const ForwardKey& key, const ForwardRequest* request) {
  const RelayServices& relay = parts_.relay;
  std::string id = request == nullptr ? ids_.id_for(key) : request->forward_id;
  const Origin origin = request == nullptr ? Origin::Auto : request->origin;
  if (key.direction == Direction::In) {
    return std::make_unique<HostForward>(relay, *this, std::move(id), key, origin);
  }
  assert(request != nullptr);
  const Port host_port = request->spec.host_port.value_or(key.target.port_number());
  return std::make_unique<InsideForward>(relay, *this, std::move(id), key, origin, host_dialer_,
                                         host_port);
}

TiedForward& ForwardSet::create(const ForwardKey& key, const Wanted& wanted) {
  TiedForward& tied = add(make(key, wanted.request));
  Forward& forward = *tied.forward;
  (void)treat(forward, wanted.treatment);
  if (forward.origin() == Origin::Auto) parts_.on_automatic(key.container, 1);
  return tied;
}

bool ForwardSet::bind(Forward& forward) {
  HostForward* host = forward.on_host();
  if (host == nullptr) return true;
  const TimePoint now = parts_.loop.now();
  switch (host_ports_.bind(*host, now)) {
    case HostPorts::Outcome::Bound:
      retries_.remove(forward.id());
      return true;
    case HostPorts::Outcome::Unfinished:
      retries_.resume(forward.id(), now);
      break;
    case HostPorts::Outcome::Conflict:
      retries_.add(forward.id(), now);
      break;
  }
  parts_.on_conflict();
  return false;
}

void ForwardSet::discard(TiedForward& tied) {
  assert(!tied.announced && tied.forward->state() == ForwardState::Conflict);
  retries_.remove(tied.forward->id());
  (void)extract(tied.forward->key());
}

void ForwardSet::update(TiedForward& tied, ContainerAccess& access, const Wanted& wanted) {
  const bool treated = treat(*tied.forward, wanted.treatment);
  const bool changed = tied.forward->update(access, wanted.listeners, settings_.host.linger);
  if (treated || changed) notify_changed(tied);
}

bool ForwardSet::treat(Forward& forward, const Treatment& treatment) {
  return forward.treat(treatment, port_settings(settings_, treatment));
}

void ForwardSet::take_over(TiedForward& tied, Origin origin) {
  assert(tied.forward->origin() == Origin::Auto && origin != Origin::Auto);
  tied.forward->become(origin);
  parts_.on_automatic(tied.forward->key().container, -1);
}

void ForwardSet::leave_container(TiedForward& tied, const std::string& container_name,
                                 const Treatment& treatment, std::string_view reason) {
  Forward& forward = *tied.forward;
  const ForwardInfo before = forward.info();
  if (auto left = forward.leave_container(settings_.host.linger)) draining_.add(std::move(left));
  forward.describe_missing(container_name);
  (void)treat(forward, treatment);
  notify_changed(tied);
  if (!forward.listening()) notify_removed(tied, before, reason);
}

void ForwardSet::withdraw(TiedForward& tied, std::string_view reason) {
  remove(tied, reason, settings_.host.drain);
}

void ForwardSet::withdraw_all(std::string_view reason) {
  while (size() > 0) withdraw(*find(all().front().forward->key()), reason);
  draining_.limit(std::nullopt, settings_.host.drain);
}

/// @param drain how long its connections may go on
void ForwardSet::remove(TiedForward& tied, std::string_view reason, Duration drain) {
  auto node = extract(tied.forward->key());
  assert(&node.mapped() == &tied);
  const ForwardKey& key = node.key();
  Forward& forward = *tied.forward;
  retries_.remove(forward.id());
  if (const HostForward* host = forward.on_host()) host_ports_.release(*host);
  if (forward.origin() == Origin::Auto) parts_.on_automatic(key.container, -1);
  const ForwardInfo info = forward.info();
  auto port = forward.withdraw(drain);
  if (drain == DrainingPorts::kNoLimit) {
    draining_.add_leftover(std::move(port), key.container);
  } else {
    draining_.add(std::move(port));
  }
  parts_.loop.retire(std::move(tied.forward));  // its own timer may be the caller
  parts_.notifier.notify(&ControlObserver::on_forward_removed, info);
  notify_removed(tied, info, reason);
}

// ---- notifying ---------------------------------------------------------------------------------

bool ForwardSet::notify_created(const TiedForward& tied) {
  const Forward& forward = *tied.forward;
  parts_.notifier.notify(&ControlObserver::on_forward_added, forward.info());
  if (forward.state() == ForwardState::Conflict) {
    notify_changed(tied);
    if (!retries_.contains(forward.id())) retries_.add(forward.id(), parts_.loop.now());
    parts_.on_conflict();
  }
  return forward.listening();
}

void ForwardSet::notify_added(std::span<TiedForward* const> listening) {
  std::uint32_t index = 0;
  for (TiedForward* tied : listening) {
    assert(tied->forward->listening() && !tied->announced);
    tied->announced = true;
    parts_.notifier.emit({.type = Event::Type::PortAdded,
                          .subject = tied->forward->info(),
                          .batch_size = static_cast<std::uint32_t>(listening.size()),
                          .batch_index = index++});
  }
}

void ForwardSet::notify_changed(const TiedForward& tied) {
  parts_.notifier.notify(&ControlObserver::on_forward_changed, tied.forward->info());
}

void ForwardSet::notify_removed(TiedForward& tied, const ForwardInfo& info,
                                std::string_view reason) {
  if (!std::exchange(tied.announced, false)) return;
  parts_.notifier.emit(
      {.type = Event::Type::PortRemoved, .reason = std::string(reason), .subject = info});
}

// ---- what forwards report ----------------------------------------------------------------------

/// The listeners are polled once more, since one that has just returned is not known yet. As the
/// listener closed by itself, its clients are served without limit, as they would be without the
/// daemon.
void ForwardSet::on_linger_over(HostForward& forward) {
  TiedForward* tied = find(forward.key());
  assert(tied != nullptr && tied->forward.get() == &forward);
  const std::string container = forward.key().container;
  if (forward.linger_for_a_look() && parts_.poll_container(container)) return;
  remove(*tied, "listener-closed", DrainingPorts::kNoLimit);
}

void ForwardSet::on_listening_settled(Forward& forward, bool changed) {
  TiedForward* tied = find(forward.key());
  assert(tied != nullptr);
  if (changed) notify_changed(*tied);
  if (forward.listening()) {
    retries_.remove(forward.id());
    return notify_added({&tied, 1});
  }
  if (!retries_.contains(forward.id())) retries_.add(forward.id(), parts_.loop.now());
  parts_.on_conflict();
}

/// The listener may have closed: polls at once. For a reverse forward the port only counts the
/// failure.
void ForwardSet::on_target_refused(ForwardPort& port, const Error& error) {
  TiedForward* tied = owner_of(port, *this);
  HostForward* host = tied == nullptr ? nullptr : tied->forward->on_host();
  if (host == nullptr) return;
  if (host->note_dial(error)) notify_changed(*tied);
  (void)parts_.poll_container(host->key().container);
}

void ForwardSet::on_target_reached(ForwardPort& port) {
  TiedForward* tied = owner_of(port, *this);
  HostForward* host = tied == nullptr ? nullptr : tied->forward->on_host();
  if (host != nullptr && host->note_dial(std::nullopt)) notify_changed(*tied);
}

}  // namespace portfwd
