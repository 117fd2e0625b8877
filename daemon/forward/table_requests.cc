// What the ForwardTable was asked for: forwards by hand and those that the configuration declares.
// Both are requests, which outlive their forward's container if they may.
#include <fmt/format.h>

#include <algorithm>

#include "base/descriptors.h"
#include "forward/forward_table.h"
#include "forward/published.h"

namespace portfwd {

namespace {

using Kind = Refusal::Kind;

ForwardKey key_in(const Container& container, const ForwardSpec& spec) {
  return {container.id, spec.direction, spec.target};
}

/// Whether the forward of `request` can serve for what is declared, whatever its label.
bool same_tie(const ForwardRequest& request, const DeclaredForward& declared) {
  return request.spec.direction == declared.direction && request.origin == Origin::Declared &&
         request.spec.container == declared.container && request.spec.target == declared.target &&
         request.spec.host_port == declared.host_port;
}

std::string in_the_way(const ForwardRequest& request, const Forward& forward) {
  if (request.spec.direction == Direction::Reverse) {
    return fmt::format(
        "port {} of {} leads to the host already: end that forward first with "
        "`portfwdctl unforward {}`",
        request.spec.target.text(), request.spec.container, forward.id());
  }
  if (forward.origin() == Origin::Declared) {
    return fmt::format(
        "port {} of {} is a [[forward]] of the configuration, at host port {}: "
        "change it there",
        request.spec.target.text(), request.spec.container, forward.host_port());
  }
  return fmt::format(
      "port {} of {} is forwarded by hand already, to host port {}: end that one "
      "first with `portfwdctl unforward {}`",
      request.spec.target.text(), request.spec.container, forward.host_port(), forward.id());
}

/// Whether a request outlives its container.
bool may_wait(const ForwardRequest& request, RemovalReason reason) {
  if (request.spec.direction == Direction::Reverse) {
    return reason != RemovalReason::Detached || request.origin != Origin::Manual;
  }
  return request.spec.allow_missing || request.spec.persist;
}

/// @param because why the forward has no host port
Refusal no_host_port(const Forward& forward, const std::string& because) {
  const ForwardInfo info = forward.info();
  if (is_descriptor_shortage({info.error, "bind"})) {
    return {Kind::LimitExceeded, fmt::format("{}: {}", because, remedy_of(info))};
  }
  if (info.error == EADDRNOTAVAIL) {
    return {Kind::InvalidArgument, fmt::format("{}: {}", because, remedy_of(info))};
  }
  return {Kind::PortInUse,
          because + ": name another one with --host-port, or none to let portfwd choose"};
}

}  // namespace

Answer<std::string> ForwardTable::add(ContainerAccess* reach, ForwardRequest request) {
  if (stopped_) {
    return refuse(Kind::Failed, "portfwd is ending: ask again when it has started anew");
  }
  begin_turn();
  follow_changes();  // a request that waits for this container is its own by now
  const bool answered = request.origin == Origin::Manual && !request.restored;
  Answer<std::string> id = insert(reach, std::move(request));
  if (reach != nullptr) reconcile(entries_.at(reach->container().id));
  if (!id || !answered) return id;
  const auto made = by_id(*id);
  if (made->second.forward->on_host() || made->second.forward->state() != ForwardState::Conflict)
    return id;
  const std::string because =
      made->second.forward->info().reason;  // no port of ours can be had inside
  end(made, "unforwarded");
  return refuse(Kind::Inaccessible, because);
}

/// Its container is marked, but not reconciled.
Answer<std::string> ForwardTable::insert(ContainerAccess* reach, ForwardRequest request) {
  if (reach != nullptr) {
    request.container_id = reach->container().id;
    request.spec.container = reach->container().name;
  }
  if (request.origin == Origin::Manual) {
    const auto by_hand = std::ranges::count(requests_, Origin::Manual, &ForwardRequest::origin);
    if (auto room = check_count(by_hand); !room) return std::unexpected(room.error());
  }
  const ForwardKey key =
      reach != nullptr ? key_in(reach->container(), request.spec) : away_key(request.spec);
  if (const auto there = forwards_.find(key); there != forwards_.end()) {
    Forward& forward = *there->second.forward;
    if (forward.origin() != Origin::Auto) {
      return refuse(Kind::InvalidArgument, in_the_way(request, forward));
    }
    if (serves(forward, request)) return take_over(there->second, std::move(request));
    withdraw(there, "replaced");
  }
  request.forward_id = next_id(request.spec.direction);
  return make(reach, key, std::move(request));
}

/// Whether a detected forward is as the request wants it.
bool ForwardTable::serves(const Forward& forward, const ForwardRequest& request) {
  const ForwardSpec& spec = request.spec;
  return spec.bind.empty() && spec.container_address.empty() &&
         spec.host_port.value_or(forward.host_port()) == forward.host_port() &&
         forward.state() != ForwardState::Conflict;
}

std::string ForwardTable::take_over(Tied& tied, ForwardRequest request) {
  Forward& forward = *tied.forward;
  request.forward_id = forward.id();
  forward.become(request.origin);
  count_automatic(forward.key().container, -1);
  if (request.spec.persist) parts_.observer.on_state_changed();
  requests_.push_back(std::move(request));
  told_change(tied);
  mark(entries_.at(forward.key().container));  // a request is treated in another way
  return requests_.back().forward_id;
}

/// A person is told at once when the host port can't be had; the configuration's stays and tries.
Answer<std::string> ForwardTable::make(ContainerAccess* reach, const ForwardKey& key,
                                       ForwardRequest request) {
  requests_.push_back(std::move(request));
  const ForwardRequest& kept = requests_.back();
  const Container* container = reach != nullptr ? &reach->container() : nullptr;
  Forward& forward = create_for(kept, key, container);
  if (!bind(forward) && kept.spec.host_port && kept.origin == Origin::Manual && !kept.restored) {
    Refusal refusal = no_host_port(forward, forward.info().reason);
    requests_.pop_back();
    ids_.erase(forward.id());
    retries_.remove(forward.id());
    forwards_.erase(key);
    if (container != nullptr) mark(entries_.at(container->id));
    return std::unexpected(std::move(refusal));
  }
  if (kept.spec.persist) parts_.observer.on_state_changed();
  std::string id = forward.id();
  announce_waiting(key);
  if (container != nullptr) mark(entries_.at(container->id));
  return id;
}

Answer<void> ForwardTable::remove(std::string_view forward_id) {
  const auto found = by_id(forward_id);
  if (found == forwards_.end()) {
    return refuse(
        Kind::NoSuchForward,
        fmt::format("there is no forward \"{}\": `portfwdctl list` shows them", forward_id));
  }
  const ForwardKey key = found->first;
  if (const auto entry = entries_.find(key.container); entry != entries_.end()) {
    if (key.direction == Direction::In) entry->second.suppressed.insert(key.target);
  }
  end(found, "unforwarded");
  return {};
}

/// With the request for it, if there is one.
void ForwardTable::end(Forwards::iterator tied, std::string_view reason) {
  const std::string id = tied->second.forward->id();
  const auto request = std::ranges::find(requests_, id, &ForwardRequest::forward_id);
  if (request != requests_.end()) {
    if (request->spec.persist) parts_.observer.on_state_changed();
    requests_.erase(request);
  }
  withdraw(tied, reason);
}

void ForwardTable::end_lifeline(std::string_view bus_name) {
  std::vector<std::string> ended;
  for (const ForwardRequest& request : requests_) {
    if (request.lifeline == bus_name) ended.push_back(request.forward_id);
  }
  for (const std::string& id : ended) (void)remove(id);
}

// ---- declared ----------------------------------------------------------------------------------

void ForwardTable::declare() {
  declare_due_ = true;
  begin_turn();
  follow_changes();
}

/// What the settings declare and what is declared are made one: what is unchanged stays as it is.
void ForwardTable::make_declared() {
  const std::vector<DeclaredForward> all = declared();
  std::vector<std::pair<std::string, std::string_view>> ended;
  for (ForwardRequest& request : requests_) {
    const auto declared =
        std::ranges::find_if(all, [&](const DeclaredForward& d) { return same_tie(request, d); });
    if (declared != all.end() && at_home(request)) {
      request.spec.label = declared->label;
      request.asked_by = declared_request(*declared).asked_by;
    } else if (request.origin == Origin::Declared) {
      const bool gone = request.by_container && request.container_id.empty();
      ended.emplace_back(request.forward_id, gone ? "container-gone" : "rule");
    }
  }
  for (const auto& [id, why] : ended) end(by_id(id), why);
  for (const DeclaredForward& declared : all) {
    const bool there = std::ranges::any_of(
        requests_, [&](const ForwardRequest& r) { return same_tie(r, declared); });
    if (!there) declare(declared);
  }
}

/// The user's own, but what an engine does already, and what containers ask for besides.
std::vector<DeclaredForward> ForwardTable::declared() const {
  std::vector<DeclaredForward> all;
  for (const DeclaredForward& declared : settings_.forwards) {
    const bool by_engine = declared.direction == Direction::In &&
                           published_.contains({declared.container, declared.target});
    if (!by_engine) all.push_back(declared);
  }
  for (DeclaredForward& wish : wishes_.declared()) {
    const bool said = std::ranges::any_of(all, [&](const DeclaredForward& d) {
      return d.container == wish.container && d.target == wish.target &&
             d.direction == wish.direction;
    });
    if (!said) all.push_back(std::move(wish));
  }
  return all;
}

void ForwardTable::declare(const DeclaredForward& declared) {
  ForwardRequest request = declared_request(declared);
  ContainerAccess* reach = named(declared.container);
  const auto there = forwards_.find(reach != nullptr ? key_in(reach->container(), declared)
                                                     : away_key(request.spec));
  const bool by_hand = there != forwards_.end() && there->second.forward->origin() != Origin::Auto;
  if (by_hand && declared.by_container) return;
  if (by_hand) end(there, "replaced");  // the configuration is the longer-lived word
  (void)insert(reach,
               std::move(request));  // a host port that can't be had is a conflict, and told so
}

/// Those of containers that were not made anew in time.
void ForwardTable::forget_wishes() {
  if (wishes_.forget(parts_.loop.now())) declare_due_ = true;
  for (const auto& [id, entry] : entries_) {
    if (!entry.project.empty()) mark(entry);  // may have been the other part of it
  }
  schedule();
  if (const auto next = wishes_.forget_at()) forget_wishes_.arm_at(*next);
}

/// Those whose container is away, since no reconcile step meets them.
void ForwardTable::treat_waiting() {
  for (const ForwardRequest& request : requests_) {
    if (!request.container_id.empty()) continue;
    const auto tied = forwards_.find(away_key(request.spec));
    Treatment treatment = treatment_of(request, nullptr, {});
    if (misplaced(*tied->second.forward, treatment)) {
      const ForwardKey key = tied->first;
      withdraw_to_replace(tied);
      bind(create_for(request, key, nullptr));
      announce_waiting(key);
    } else if (treat(*tied->second.forward, treatment)) {
      told_change(tied->second);
    }
  }
}

/// Whether its forward is at the addresses that the settings give it.
bool ForwardTable::at_home(const ForwardRequest& request) {
  const HostForward* forward = by_id(request.forward_id)->second.forward->on_host();
  return forward == nullptr ||
         forward->tried_addresses() ==
             host_addresses(request.spec.container, forward->treatment().bind);
}

ContainerAccess* ForwardTable::named(const std::string& container) const {
  const auto found = std::ranges::find_if(entries_, [&](const auto& entry) {
    const ContainerAccess& reach = *entry.second.reach;
    return reach.container().name == container && reach.state() == ContainerState::Watched;
  });
  return found == entries_.end() ? nullptr : found->second.reach;
}

// ---- their containers --------------------------------------------------------------------------

/// What the metadata of a container asked for that is made anew under another name waits for it.
void ForwardTable::inherit(const Container& container) {
  for (const std::string& name : wishes_.predecessors(container)) {
    if (name == container.name) continue;
    for (ForwardRequest& request : requests_) {
      const bool waits = request.by_container && request.container_id.empty();
      if (!waits || request.spec.container != name) continue;
      const ForwardKey from = away_key(request.spec);
      const std::string before = std::exchange(request.spec.container, container.name);
      ForwardKey to = away_key(request.spec);
      if (forwards_.contains(to)) {
        request.spec.container = before;
      } else {
        rekey(from, std::move(to));
      }
    }
  }
}

/// Whether its engine leads to what the settings declare, at the host port that they name, if any.
/// It is going to need that host port for the next container of this name, too.
void ForwardTable::note_published(const Container& container) {
  if (container.publishes_unknown || container.image.empty())
    return;  // its engine has not answered
  for (const DeclaredForward& declared : settings_.forwards) {
    if (declared.container != container.name || declared.direction != Direction::In) continue;
    const auto port = published_on_loopback(container.published, declared.target);
    const bool served = port && declared.host_port.value_or(*port) == *port;
    std::pair<std::string, Target> key{declared.container, declared.target};
    const bool news =
        served ? published_.insert(std::move(key)).second : published_.erase(key) != 0;
    if (news) declare_due_ = true;
  }
}

/// Requests that waited for a container of this name become its own.
void ForwardTable::adopt(Entry& entry) {
  const Container& container = entry.reach->container();
  for (ForwardRequest& request : requests_) {
    if (!request.meant(container)) continue;
    const ForwardKey away = away_key(request.spec);
    const ForwardKey key = key_in(container, request.spec);
    if (const auto there = forwards_.find(key); there != forwards_.end()) end(there, "replaced");
    request.container_id = container.id;
    rekey(away, key);
    Tied& tied = forwards_.at(key);
    tied.forward->describe(container);
    told_change(tied);
  }
}

void ForwardTable::rekey(const ForwardKey& from, ForwardKey to) {
  auto node = forwards_.extract(from);
  node.mapped().forward->rekey(to);
  node.key() = std::move(to);
  forwards_.insert(std::move(node));
}

/// Its forward waits for another container of that name. @param reason if it does not listen
/// meanwhile
void ForwardTable::release(ForwardRequest& request, std::string_view reason) {
  const ForwardKey away = away_key(request.spec);
  rekey({request.container_id, request.spec.direction, request.spec.target}, away);
  request.container_id.clear();
  Tied& tied = forwards_.at(away);
  const ForwardInfo before = tied.forward->info();
  if (auto left = tied.forward->leave_container(settings_.host.linger)) {
    draining_.add(std::move(left));
  }
  tied.forward->describe_missing(request.spec.container);
  (void)treat(*tied.forward, treatment_of(request, nullptr, {}));  // rules were about the container
  told_change(tied);
  if (!tied.forward->listening()) tell_removed(tied, before, reason);
}

/// Of a container that goes: the requests that may wait do so, the others end with it.
void ForwardTable::release_all(const std::string& container_id, RemovalReason reason) {
  for (ForwardRequest& request : requests_) {
    if (request.container_id == container_id && may_wait(request, reason)) {
      release(request, reason == RemovalReason::Replaced ? "replaced" : "container-gone");
    }
  }
  requests_.remove_if([&](const ForwardRequest& r) { return r.container_id == container_id; });
}

/// What the configuration declares for a name leaves a container that has got another one.
void ForwardTable::release_misnamed(const Container& container) {
  for (ForwardRequest& request : requests_) {
    const bool misnamed = request.origin == Origin::Declared &&
                          request.container_id == container.id &&
                          request.spec.container != container.name;
    if (misnamed) release(request, "replaced");
  }
}

/// What was asked for is treated as if it had been detected, but where it is on the host is for the
/// one who asked to say. @param container null while it is away
Treatment ForwardTable::treatment_of(const ForwardRequest& request, const Container* container,
                                     std::span<const Listener> listeners) const {
  if (request.spec.direction == Direction::Reverse) {  // nothing on the host becomes reachable
    return {.on_auto_forward = "silent", .label = request.spec.label};
  }
  Listener listener;
  listener.protocol = request.spec.target.protocol();
  listener.local = Endpoint{IpAddress::loopback(Family::V4), request.spec.target.port_number()};
  if (!listeners.empty()) listener = listeners.front();
  Treatment treatment = container == nullptr ? default_treatment(settings_)
                                             : decide(policy(), *container, listener).treatment;
  if (!request.spec.label.empty()) treatment.label = request.spec.label;
  if (!request.by_container || container == nullptr) {
    treatment.on_auto_forward = "notify";
  } else if (treatment.on_auto_forward ==
             "ignore") {  // is about detected ports; this one is wanted
    treatment.on_auto_forward = "silent";
  }
  treatment.host_port = request.spec.host_port;
  treatment.require_host_port = request.spec.host_port.has_value();
  treatment.bind.reset();
  if (request.by_container && settings_.host.bind.is_remote()) treatment.bind = Bind{};
  if (!request.spec.bind.empty()) treatment.bind = Bind{IpAddress::parse(request.spec.bind)};
  return treatment;
}

}  // namespace portfwd
