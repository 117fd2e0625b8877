#include "forward/forward_set.h"

#include <fmt/format.h>

#include <cassert>
#include <charconv>

#include "forward/forward.h"

namespace portfwd {

namespace {

std::optional<HostSocketDialer> socket_dialer(const ForwardSet::Parts& parts, bool pass_fds) {
  const auto& [broker, environment, folder] = parts.host_paths;
  if (broker == nullptr || environment == nullptr) return std::nullopt;
  return std::optional<HostSocketDialer>(std::in_place, parts.loop, *broker, *environment,
                                         ConnectOptions{.refuse_fds = !pass_fds});
}

}  // namespace

ForwardSet::ForwardSet(Parts parts, const Settings& settings)
    : parts_(std::move(parts)),
      settings_(settings),
      host_sockets_(parts_.relay.context),
      host_dialer_(parts_.relay.context, host_sockets_),
      host_socket_dialers_{socket_dialer(parts_, false), socket_dialer(parts_, true)},
      host_ports_(settings, parts_.holders, parts_.on_ports_changed),
      host_paths_(
          parts_.host_paths, [this](const std::string& id) { on_place_ready(id); },
          parts_.on_ports_changed),
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
  for (const ListedForward& listed : all()) {
    if (out.size() == State::kMostForwards) break;
    const Forward& forward = *listed.forward;
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

ListedForward* ForwardIndex::find(const ForwardKey& key) {
  const auto found = forwards_.find(key);
  return found == forwards_.end() ? nullptr : &found->second;
}

const Forward* ForwardIndex::find_id(std::string_view id) const {
  const auto found = ids_.find(id);
  return found == ids_.end() ? nullptr : found->second;
}

ListedForward* ForwardIndex::find_id(std::string_view id) {
  const Forward* forward = std::as_const(*this).find_id(id);
  return forward == nullptr ? nullptr : find(forward->key());
}

std::vector<ListedForward*> ForwardIndex::of(const std::string& container_id) {
  std::vector<ListedForward*> out;
  for (auto it = forwards_.lower_bound({container_id, {}, {}});
       it != forwards_.end() && it->first.container == container_id; ++it) {
    out.push_back(&it->second);
  }
  return out;
}

std::vector<ForwardInfo> ForwardIndex::infos() const {
  std::vector<ForwardInfo> out;
  out.reserve(forwards_.size());
  for (const ListedForward& listed : all()) out.push_back(listed.forward->info());
  return out;
}

ListedForward& ForwardIndex::add(std::unique_ptr<Forward> forward) {
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

ListedForward& ForwardIndex::rekey(const ForwardKey& from, ForwardKey to) {
  assert(!forwards_.contains(to));
  auto node = forwards_.extract(from);
  assert(!node.empty());
  node.mapped().forward->rekey(to);
  node.key() = std::move(to);
  return forwards_.insert(std::move(node)).position->second;
}

namespace {

/// The forward of a port; null if it was removed and the port still drains.
ListedForward* owner_of(const ForwardPort& port, ForwardIndex& forwards) {
  ListedForward* listed = forwards.find_id(port.id());
  return listed != nullptr && listed->forward->owns(port) ? listed : nullptr;
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

std::unique_ptr<Forward> ForwardSet::make(const ForwardKey& key, const Wanted& wanted) {
  const RelayServices& relay = parts_.relay;
  const ForwardRequest* request = wanted.request;
  std::string id = request == nullptr ? ids_.id_for(key) : request->forward_id;
  const Origin origin = request == nullptr ? Origin::Auto : request->origin;
  if (key.direction == Direction::In) {
    const Protocol listens = host_side(key.target, wanted.treatment);
    HostPlaces& places = listens == Protocol::Unix ? static_cast<HostPlaces&>(host_paths_)
                                                   : static_cast<HostPlaces&>(host_ports_);
    return std::make_unique<HostForward>(relay, *this, std::move(id), key, origin,
                                         HostSide{listens, places});
  }
  assert(request != nullptr);
  return std::make_unique<InsideForward>(relay, *this, std::move(id), key, origin,
                                         host_target(request->spec));
}

HostTarget ForwardSet::host_target(const ForwardSpec& spec) {
  if (!spec.host_path.empty()) {
    auto& dialer = host_socket_dialers_[spec.socket.pass_fds ? 1 : 0];
    assert(dialer);
    return {*dialer, {{UnixPath{spec.host_path}}}, 0, spec.host_path};
  }
  HostTarget out{host_dialer_, {}, spec.host_port.value_or(spec.target.port_number()), ""};
  for (const Family family : {Family::V4, Family::V6}) {
    out.addresses.push_back({Endpoint{IpAddress::loopback(family), out.port}, true});
  }
  return out;
}

ListedForward& ForwardSet::create(const ForwardKey& key, const Wanted& wanted) {
  ListedForward& listed = add(make(key, wanted));
  Forward& forward = *listed.forward;
  (void)apply_treatment(forward, wanted.treatment);
  if (forward.origin() == Origin::Auto) parts_.on_automatic(key.container, 1);
  return listed;
}

bool ForwardSet::bind(Forward& forward) {
  HostForward* host = forward.on_host();
  if (host == nullptr) return true;
  const TimePoint now = parts_.loop.now();
  switch (host->places().bind(*host, now)) {
    case HostPlaces::Outcome::Bound:
      retries_.remove(forward.id());
      return true;
    case HostPlaces::Outcome::Unfinished:
      retries_.resume(forward.id(), now);
      break;
    case HostPlaces::Outcome::Requested:
      break;
    case HostPlaces::Outcome::Conflict:
      retries_.add(forward.id(), now);
      break;
  }
  parts_.on_conflict();
  return false;
}

void ForwardSet::discard(ListedForward& listed) {
  assert(!listed.announced && listed.forward->state() == ForwardState::Conflict);
  retries_.remove(listed.forward->id());
  (void)extract(listed.forward->key());
}

void ForwardSet::update(ListedForward& listed, ContainerAccess& access, const Wanted& wanted) {
  const bool treated = apply_treatment(*listed.forward, wanted.treatment);
  const bool changed = listed.forward->update(access, wanted.listeners, settings_.host.linger);
  if (treated || changed) notify_changed(listed);
}

bool ForwardSet::apply_treatment(Forward& forward, const Treatment& treatment) {
  return forward.apply_treatment(treatment, port_settings(settings_, treatment));
}

bool ForwardSet::misplaced(const Forward& forward, const Treatment& treatment) {
  const HostForward* host = forward.on_host();
  return host != nullptr && host->places().misplaced(*host, treatment);
}

void ForwardSet::take_over(ListedForward& listed, Origin origin) {
  assert(listed.forward->origin() == Origin::Auto && origin != Origin::Auto);
  listed.forward->set_origin(origin);
  parts_.on_automatic(listed.forward->key().container, -1);
}

void ForwardSet::leave_container(ListedForward& listed, const std::string& container_name,
                                 const Treatment& treatment, std::string_view reason) {
  Forward& forward = *listed.forward;
  const ForwardInfo before = forward.info();
  if (auto left = forward.leave_container(settings_.host.linger)) draining_.add(std::move(left));
  forward.describe_missing(container_name);
  (void)apply_treatment(forward, treatment);
  notify_changed(listed);
  if (!forward.listening()) notify_removed(listed, before, reason);
}

void ForwardSet::withdraw(ListedForward& listed, std::string_view reason) {
  remove(listed, reason, settings_.host.drain);
}

void ForwardSet::end_lingering(ListedForward& listed) {
  remove(listed, "listener-closed", DrainingPorts::kNoLimit);
}

void ForwardSet::withdraw_all(std::string_view reason) {
  while (size() > 0) withdraw(*find(all().front().forward->key()), reason);
  draining_.limit(std::nullopt, settings_.host.drain);
}

/// @param drain how long its connections may go on
void ForwardSet::remove(ListedForward& listed, std::string_view reason, Duration drain) {
  auto node = extract(listed.forward->key());
  assert(&node.mapped() == &listed);
  const ForwardKey& key = node.key();
  Forward& forward = *listed.forward;
  retries_.remove(forward.id());
  if (const HostForward* host = forward.on_host()) host->places().release(*host);
  if (forward.origin() == Origin::Auto) parts_.on_automatic(key.container, -1);
  const ForwardInfo info = forward.info();
  auto port = forward.withdraw(drain);
  if (drain == DrainingPorts::kNoLimit) {
    draining_.add_leftover(std::move(port), key.container);
  } else {
    draining_.add(std::move(port));
  }
  parts_.loop.retire(std::move(listed.forward));  // its own timer may be the caller
  parts_.notifier.notify(&ControlObserver::on_forward_removed, info);
  notify_removed(listed, info, reason);
}

// ---- notifying ---------------------------------------------------------------------------------

bool ForwardSet::notify_created(const ListedForward& listed) {
  const Forward& forward = *listed.forward;
  parts_.notifier.notify(&ControlObserver::on_forward_added, forward.info());
  if (forward.state() == ForwardState::Conflict) {
    notify_changed(listed);
    if (!retries_.contains(forward.id())) retries_.add(forward.id(), parts_.loop.now());
    parts_.on_conflict();
  }
  return forward.listening();
}

void ForwardSet::notify_added(std::span<ListedForward* const> listening) {
  std::uint32_t index = 0;
  for (ListedForward* listed : listening) {
    assert(listed->forward->listening() && !listed->announced);
    listed->announced = true;
    parts_.notifier.emit({.type = Event::Type::PortAdded,
                          .subject = listed->forward->info(),
                          .batch_size = static_cast<std::uint32_t>(listening.size()),
                          .batch_index = index++});
  }
}

void ForwardSet::notify_changed(const ListedForward& listed) {
  parts_.notifier.notify(&ControlObserver::on_forward_changed, listed.forward->info());
}

void ForwardSet::notify_removed(ListedForward& listed, const ForwardInfo& info,
                                std::string_view reason) {
  if (!std::exchange(listed.announced, false)) return;
  parts_.notifier.emit(
      {.type = Event::Type::PortRemoved, .reason = std::string(reason), .subject = info});
}

// ---- what forwards report ----------------------------------------------------------------------

/// The listeners are polled once more, since one that has just returned is not known yet.
void ForwardSet::on_linger_over(HostForward& forward) {
  ListedForward* listed = find(forward.key());
  assert(listed != nullptr && listed->forward.get() == &forward);
  const std::string container = forward.key().container;
  if (forward.linger_for_last_poll() && parts_.poll_container(container)) return;
  end_lingering(*listed);
}

void ForwardSet::on_update_complete(Forward& forward, bool changed) {
  ListedForward* listed = find(forward.key());
  assert(listed != nullptr);
  if (changed) notify_changed(*listed);
  if (forward.listening()) {
    retries_.remove(forward.id());
    return notify_added({&listed, 1});
  }
  if (!retries_.contains(forward.id())) retries_.add(forward.id(), parts_.loop.now());
  parts_.on_conflict();
}

void ForwardSet::on_place_ready(const std::string& forward_id) {
  retries_.resume(forward_id, parts_.loop.now());
  parts_.on_conflict();
}

/// As after a bind(2) that failed: the retries bind it again.
void ForwardSet::on_place_lost(ForwardPort& port, const BindFailure& failure) {
  ListedForward* listed = owner_of(port, *this);
  if (listed == nullptr) return;
  const ForwardInfo before = listed->forward->info();
  draining_.add(listed->forward->lose_place(failure, settings_.host.drain));
  notify_changed(*listed);
  notify_removed(*listed, before, "replaced");
  on_place_ready(listed->forward->id());
}

/// The listener may have closed: polls at once. For a reverse forward the port only counts the
/// failure.
void ForwardSet::on_target_refused(ForwardPort& port, const Error& error) {
  ListedForward* listed = owner_of(port, *this);
  HostForward* host = listed == nullptr ? nullptr : listed->forward->on_host();
  if (host == nullptr) return;
  if (host->note_dial(error)) notify_changed(*listed);
  (void)parts_.poll_container(host->key().container);
}

void ForwardSet::on_target_reached(ForwardPort& port) {
  ListedForward* listed = owner_of(port, *this);
  HostForward* host = listed == nullptr ? nullptr : listed->forward->on_host();
  if (host != nullptr && host->note_dial(std::nullopt)) notify_changed(*listed);
}

}  // namespace portfwd
