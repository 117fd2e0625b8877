#include "forward/requested_forwards.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "base/unique_fd.h"
#include "net/presets.h"
#include "policy/policy.h"

namespace portfwd {

Answer<void> RequestBook::check_manual_limit() const {
  return check_count(std::ranges::count(requests_, Origin::Manual, &ForwardRequest::origin));
}

ForwardRequest& RequestBook::add(ForwardRequest request) {
  assert(!request.forward_id.empty() && request.origin != Origin::Auto);
  assert(find(request.forward_id) == nullptr);
  ForwardRequest& added = requests_.emplace_back(std::move(request));
  if (added.spec.persist) on_persistent_changed_();
  return added;
}

void RequestBook::remove(std::string_view forward_id) {
  const auto request = std::ranges::find(requests_, forward_id, &ForwardRequest::forward_id);
  if (request == requests_.end()) return;
  const bool persistent = request->spec.persist;
  requests_.erase(request);
  if (persistent) on_persistent_changed_();
}

void RequestBook::remove_of(std::string_view container_id) {
  assert(!container_id.empty());
  const auto is_of_it = [&](const ForwardRequest& r) { return r.container_id == container_id; };
  const bool persistent = std::ranges::any_of(
      requests_, [&](const ForwardRequest& r) { return is_of_it(r) && r.spec.persist; });
  requests_.remove_if(is_of_it);
  if (persistent) on_persistent_changed_();
}

const ForwardRequest* RequestBook::find(std::string_view forward_id) const {
  const auto found = std::ranges::find(requests_, forward_id, &ForwardRequest::forward_id);
  return found == requests_.end() ? nullptr : &*found;
}

ForwardRequest* RequestBook::find(std::string_view forward_id) {
  return const_cast<ForwardRequest*>(std::as_const(*this).find(forward_id));
}

std::vector<const ForwardRequest*> RequestBook::of(std::string_view container_id) const {
  std::vector<const ForwardRequest*> out;
  for (const ForwardRequest& request : requests_) {
    if (request.container_id == container_id) out.push_back(&request);
  }
  return out;
}

std::vector<std::string> RequestBook::of_lifeline(std::string_view bus_name) const {
  std::vector<std::string> out;
  for (const ForwardRequest& request : requests_) {
    if (request.lifeline == bus_name) out.push_back(request.forward_id);
  }
  return out;
}

void RequestBook::save(State& state) const {
  state.forwards.clear();
  for (const ForwardRequest& request : requests_) {
    if (request.spec.persist) state.forwards.push_back(request.spec);
  }
}

namespace {

using Kind = Refusal::Kind;

ForwardKey key_in(const Container& container, const ForwardSpec& spec) {
  return {container.id, spec.direction, spec.target};
}

/// Whether both are for the same port, and for the same host port. Labels may differ.
bool same_place(const ForwardSpec& a, const ForwardSpec& b) {
  return a.container == b.container && a.direction == b.direction && a.target == b.target &&
         a.host_port == b.host_port && a.host_path == b.host_path && a.socket == b.socket;
}

bool is_request_for(const ForwardRequest& request, const DeclaredForward& declared) {
  return request.origin == Origin::Declared && same_place(request.spec, declared);
}

std::string already_forwarded_text(const ForwardRequest& request, const Forward& forward) {
  const std::string what =
      fmt::format("{} of {}", named(request.spec.target), request.spec.container);
  if (request.spec.direction == Direction::Reverse) {
    return fmt::format("{} leads to the host already: end forward {} first", what, forward.id());
  }
  const std::string place = forward.host_path().empty()
                                ? fmt::format("host port {}", forward.host_port())
                                : forward.host_path();
  if (forward.origin() == Origin::Declared) {
    return fmt::format("{} is a [[forward]] of the configuration, at {}: change it there", what,
                       place);
  }
  return fmt::format("{} is forwarded manually already, to {}: end forward {} first", what, place,
                     forward.id());
}

/// Whether a request may wait for the next container of the name.
bool may_wait(const ForwardRequest& request, RemovalReason reason) {
  if (request.spec.persist) return true;
  if (request.spec.direction == Direction::Reverse) {
    return reason != RemovalReason::Detached || request.origin != Origin::Manual;
  }
  return request.spec.allow_missing;
}

/// The refusal for a host port that cannot be bound. @param because the forward's reason
Refusal no_host_port(const Forward& forward, const std::string& because) {
  const ForwardInfo info = forward.info();
  if (is_descriptor_shortage({info.error, "bind"})) {
    return {Kind::LimitExceeded,
            fmt::format("{}: {}", because, remedy_sentence(remedies_of(info)))};
  }
  if (info.error == EADDRNOTAVAIL) {
    return {Kind::InvalidArgument,
            fmt::format("{}: {}", because, remedy_sentence(remedies_of(info)))};
  }
  return {Kind::PortInUse,
          because + ": request another host port, or none to let portfwd choose one"};
}

/// Whether a detected forward has what the request asks for.
bool serves(const Forward& forward, const ForwardRequest& request) {
  const ForwardSpec& spec = request.spec;
  return spec.bind.empty() && spec.container_address.empty() &&
         spec.host_port.value_or(forward.host_port()) == forward.host_port() &&
         forward.state() != ForwardState::Conflict;
}

}  // namespace

void RequestedForwards::update_container(ContainerAccess& access) {
  const Container& container = access.container();
  release_misnamed(container);
  if (access.state() != ContainerState::Watched) return;  // may be another user's
  if (declarations_.note_present(container.name)) due_ = true;
  rename_waiting(container);
  note_published(container);
  adopt(container);
  if (metadata_policy().update(container)) due_ = true;
}

void RequestedForwards::note_published(const Container& container) {
  if (declarations_.note_published(container)) due_ = true;
}

void RequestedForwards::leave_container(const Container& container, RemovalReason reason) {
  if (declarations_.note_absent(container.name)) due_ = true;
  for (ForwardRequest& request : book_) {
    if (request.container_id == container.id && may_wait(request, reason)) {
      release(request, reason == RemovalReason::Replaced ? "replaced" : "container-gone");
    }
  }
  book_.remove_of(container.id);
}

void RequestedForwards::dismiss(ListedForward& listed) {
  for (const DeclaredForward& declared : declarations_.all()) {
    const bool ended = std::ranges::any_of(book_, [&](const ForwardRequest& r) {
      return r.forward_id == listed.forward->id() && is_request_for(r, declared);
    });
    if (ended) dismissed_.push_back(declared);
  }
  end(listed, "unforwarded");
}

void RequestedForwards::make_declared() {
  if (!std::exchange(due_, false)) return;
  reconcile_declared();
  update_waiting();
}

Answer<std::string> RequestedForwards::insert(ContainerAccess* access, ForwardRequest request) {
  if (access != nullptr) {
    request.container_id = access->container().id;
    request.spec.container = access->container().name;
  }
  if (request.origin == Origin::Manual) {
    if (auto room = book_.check_manual_limit(); !room) return std::unexpected(room.error());
  }
  const ForwardKey key =
      access != nullptr ? key_in(access->container(), request.spec) : away_key(request.spec);
  if (ListedForward* there = forwards_.find(key)) {
    if (there->forward->origin() != Origin::Auto) {
      return refuse(Kind::InvalidArgument, already_forwarded_text(request, *there->forward));
    }
    if (serves(*there->forward, request)) {
      request.forward_id = there->forward->id();
      forwards_.take_over(*there, request.origin);
      const ForwardRequest& kept = book_.add(std::move(request));
      forwards_.notify_changed(*there);
      mark_(key.container);  // its treatment differs
      return kept.forward_id;
    }
    forwards_.withdraw(*there, "replaced");
  }
  request.forward_id = forwards_.ids().id_for(key);
  return make(access, key, std::move(request));
}

/// Refuses a manual request at once if its host port cannot be bound. A declared or restored one
/// stays in conflict and is retried.
Answer<std::string> RequestedForwards::make(ContainerAccess* access, const ForwardKey& key,
                                            ForwardRequest request) {
  const ForwardRequest& kept = book_.add(std::move(request));
  const Container* container = access != nullptr ? &access->container() : nullptr;
  if (container != nullptr) mark_(container->id);
  const auto meant =
      access != nullptr ? listeners_for(kept, access->listeners()) : std::vector<Listener>();
  make_waiting(kept, key, container, meant);
  ListedForward& made = *forwards_.find(key);
  const bool wants_port = kept.spec.host_port && made.forward->on_host() != nullptr;
  const bool answered = kept.origin == Origin::Manual && !kept.restored;
  if (wants_port && answered && made.forward->state() == ForwardState::Conflict) {
    Refusal refusal = no_host_port(*made.forward, made.forward->info().reason);
    book_.remove(made.forward->id());
    forwards_.discard(made);
    return std::unexpected(std::move(refusal));
  }
  if (forwards_.notify_created(made)) {
    ListedForward* added = &made;
    forwards_.notify_added({&added, 1});
  }
  return kept.forward_id;
}

/// Creates the forward of a request, which waits until a reconcile step assigns listeners.
void RequestedForwards::make_waiting(const ForwardRequest& request, const ForwardKey& key,
                                     const Container* container,
                                     std::span<const Listener> listeners) {
  ListedForward& listed =
      forwards_.create(key, {{}, &request, treatment_of(policy_(), request, container, listeners)});
  if (container != nullptr) {
    (void)listed.forward->describe(*container);
  } else {
    listed.forward->describe_missing(request.spec.container);
  }
  forwards_.bind(*listed.forward);
  if (HostForward* forward = listed.forward->on_host()) (void)forward->wait(settings_.host.linger);
}

void RequestedForwards::end(ListedForward& listed, std::string_view reason) {
  book_.remove(listed.forward->id());
  forwards_.withdraw(listed, reason);
}

void RequestedForwards::replace(ListedForward& listed) {
  const std::string id = listed.forward->id();
  const Direction direction = listed.forward->key().direction;
  forwards_.withdraw(listed, "replaced");
  if (ForwardRequest* request = book_.find(id))
    request->forward_id = forwards_.ids().next(direction);
}

void RequestedForwards::reconcile_declared() {
  const std::vector<DeclaredForward> all = declarations_.all();
  std::vector<std::pair<std::string, std::string_view>> ended;
  for (ForwardRequest& request : book_) {
    const auto declared = std::ranges::find_if(
        all, [&](const DeclaredForward& d) { return is_request_for(request, d); });
    const Forward& forward = *forwards_.find_id(request.forward_id)->forward;
    const HostForward* host = forward.on_host();
    const bool at_home = host == nullptr || host->places().at_home(*host, request.spec);
    if (declared != all.end() && at_home) {
      request.spec.label = declared->label;
      request.asked_by = declared_request(*declared).asked_by;
    } else if (request.origin == Origin::Declared) {
      const bool gone = request.by_container && request.container_id.empty();
      ended.emplace_back(request.forward_id, gone ? "container-gone" : "rule");
    }
  }
  for (const auto& [id, why] : ended) end(*forwards_.find_id(id), why);
  std::erase_if(dismissed_, [&](const DeclaredForward& d) {
    return std::ranges::none_of(all, [&](const DeclaredForward& a) { return same_place(a, d); });
  });
  for (const DeclaredForward& declared : all) {
    const bool there = std::ranges::any_of(
        book_, [&](const ForwardRequest& r) { return is_request_for(r, declared); });
    const bool dismissed = std::ranges::any_of(
        dismissed_, [&](const DeclaredForward& d) { return same_place(d, declared); });
    if (!there && !dismissed) declare(declared);
  }
}

void RequestedForwards::declare(const DeclaredForward& declared) {
  ForwardRequest request = declared_request(declared);
  ContainerAccess* access = find_watched_(declared.container);
  ListedForward* there = forwards_.find(access != nullptr ? key_in(access->container(), declared)
                                                          : away_key(request.spec));
  const bool by_hand = there != nullptr && there->forward->origin() != Origin::Auto;
  if (by_hand && declared.by_container) return;
  if (by_hand) end(*there, "replaced");      // configuration overrides manual requests
  (void)insert(access, std::move(request));  // never refused: a taken host port is a conflict
}

/// Applies the treatment of forwards without a container, which no reconcile step reaches.
void RequestedForwards::update_waiting() {
  for (const ForwardRequest& request : book_) {
    if (!request.container_id.empty()) continue;
    const ForwardKey key = away_key(request.spec);
    ListedForward* listed = forwards_.find(key);
    assert(listed != nullptr);
    const Treatment treatment = treatment_of(policy_(), request, nullptr, {});
    if (forwards_.misplaced(*listed->forward, treatment)) {
      replace(*listed);
      make_waiting(request, key, nullptr, {});
      listed = forwards_.find(key);
      if (forwards_.notify_created(*listed)) forwards_.notify_added({&listed, 1});
    } else if (forwards_.apply_treatment(*listed->forward, treatment)) {
      forwards_.notify_changed(*listed);
    }
  }
}

/// Renames waiting requests from the metadata of a container that was made again under another
/// name, so that adopt() finds them.
void RequestedForwards::rename_waiting(const Container& container) {
  for (const std::string& name : metadata_policy().predecessors(container)) {
    if (name == container.name) continue;
    for (ForwardRequest& request : book_) {
      const bool waits = request.by_container && request.container_id.empty();
      if (!waits || request.spec.container != name) continue;
      ForwardSpec renamed = request.spec;
      renamed.container = container.name;
      if (forwards_.contains(away_key(renamed))) continue;
      forwards_.rekey(away_key(request.spec), away_key(renamed));
      request.spec = std::move(renamed);
    }
  }
}

/// Assigns the requests that wait for a container of this name to the container.
void RequestedForwards::adopt(const Container& container) {
  for (ForwardRequest& request : book_) {
    if (!request.waits_for(container)) continue;
    const ForwardKey key = key_in(container, request.spec);
    if (ListedForward* there = forwards_.find(key)) end(*there, "replaced");
    request.container_id = container.id;
    ListedForward& listed = forwards_.rekey(away_key(request.spec), key);
    (void)listed.forward->describe(container);
    forwards_.notify_changed(listed);
  }
}

/// Makes a request and its forward wait for the next container of the name. @param reason of
/// PortRemoved, if the forward no longer listens
void RequestedForwards::release(ForwardRequest& request, std::string_view reason) {
  ListedForward& listed = forwards_.rekey(
      {request.container_id, request.spec.direction, request.spec.target}, away_key(request.spec));
  request.container_id.clear();
  const Treatment treatment = treatment_of(policy_(), request, nullptr, {});  // no rule matches
  forwards_.leave_container(listed, request.spec.container, treatment, reason);
}

/// Releases the declared forwards of a container that was renamed.
void RequestedForwards::release_misnamed(const Container& container) {
  for (ForwardRequest& request : book_) {
    const bool misnamed = request.origin == Origin::Declared &&
                          request.container_id == container.id &&
                          request.spec.container != container.name;
    if (misnamed) release(request, "replaced");
  }
}

std::vector<DeclaredForward> Declarations::all() const {
  std::vector<DeclaredForward> all;
  for (const DeclaredForward& declared : settings_.forwards) {
    const bool by_engine = declared.direction == Direction::In &&
                           published_.contains({declared.container, declared.target});
    if (!by_engine) all.push_back(declared);
  }
  std::ranges::move(shares(), std::back_inserter(all));
  for (DeclaredForward& from_metadata : metadata_policy_.declared()) {
    const bool said = std::ranges::any_of(all, [&](const DeclaredForward& d) {
      return d.container == from_metadata.container && d.target == from_metadata.target &&
             d.direction == from_metadata.direction;
    });
    if (!said) all.push_back(std::move(from_metadata));
  }
  return all;
}

std::vector<DeclaredForward> Declarations::shares() const {
  std::vector<DeclaredForward> out;
  for (const Share& share : settings_.shares) {
    const Preset* preset = find_preset(share.preset);
    std::string inside = share.inside;
    if (preset != nullptr) {
      inside = fmt::format("{}/{}", inside.empty() ? kSharedFolder : inside, preset->file);
    }
    const auto target = parse_target("unix:" + inside);
    if (!target) continue;  // the configuration was checked: a preset without a name
    DeclaredForward forward;
    forward.target = *target;
    forward.direction = Direction::Reverse;
    forward.host_path = preset != nullptr ? std::string(preset->host) : share.host;
    forward.socket = share.socket;
    forward.socket.pass_fds |= preset != nullptr && preset->pass_fds;
    forward.socket.create_parents |= share.inside.empty();
    forward.label = share.name.empty() ? share.preset : share.name;
    forward.place = share.place;
    for (const std::string& name : present_) {
      if (!matches_pattern(share.container, name)) continue;
      forward.container = name;
      out.push_back(forward);
    }
  }
  return out;
}

bool Declarations::note_published(const Container& container) {
  const bool engine_has_answered = !container.publishes_unknown && !container.image.empty();
  if (!engine_has_answered) return false;
  bool changed = false;
  for (const DeclaredForward& declared : settings_.forwards) {
    if (declared.container != container.name || declared.direction != Direction::In) continue;
    const auto port = published_on_loopback(container.published, declared.target);
    const bool served = port && declared.host_port.value_or(*port) == *port;
    std::pair<std::string, Target> key{declared.container, declared.target};
    changed |= served ? published_.insert(std::move(key)).second : published_.erase(key) != 0;
  }
  return changed;
}

}  // namespace portfwd
