#include "forward/reverse_forwards.h"

#include <fmt/format.h>

#include <algorithm>

namespace portfwd {

namespace {

using Kind = Refusal::Kind;

bool says(const DeclaredForward& declared, const ReverseForward& forward) {
  const ForwardRequest& request = forward.request();
  return declared.direction == Direction::Reverse && declared.target == request.spec.target &&
         declared.container == request.spec.container &&
         declared.host_port == request.spec.host_port && declared.label == request.spec.label;
}

}  // namespace

ReverseForwards::ReverseForwards(EventLoop& loop, const RelayServices& relay,
                                 TableObserver& observer, const Settings& settings)
    : loop_(loop),
      relay_(relay),
      observer_(observer),
      settings_(settings),
      sockets_(loop),
      host_(relay.context, sockets_),
      draining_(loop),
      conflict_retry_(loop, [this] { retry_conflicts(); }) {}

// ---- settings ----------------------------------------------------------------------------------

ForwardPortSettings ReverseForwards::port_settings() const {
  return {.hold = settings_.host.hold,
          .connect_timeout = settings_.host.connect_timeout,
          .max_connections = settings_.host.max_connections};
}

void ReverseForwards::apply(const Settings& settings) {
  settings_ = settings;
  for (auto it = forwards_.begin(); it != forwards_.end();) {
    const auto next = std::next(it);
    ReverseForward& forward = *it->second.forward;
    forward.configure(port_settings());
    const bool declared = std::ranges::any_of(
        settings_.forwards, [&](const DeclaredForward& d) { return says(d, forward); });
    if (forward.origin() == Origin::Declared && !declared) withdraw(it, "rule");
    it = next;
  }
  declare();
}

void ReverseForwards::declare() {
  for (const DeclaredForward& declared : settings_.forwards) {
    if (declared.direction == Direction::Reverse) declare(declared);
  }
}

/// One that was asked for by hand gives way: the configuration is the longer-lived word.
void ReverseForwards::declare(const DeclaredForward& declared) {
  if (ReverseForward* there = find_target(declared.container, declared.target)) {
    if (there->origin() == Origin::Declared) {
      return there->set_asked_by(declared_request(declared).asked_by);
    }
    withdraw(forwards_.find(there->id()), "replaced");
  }
  ForwardRequest request = declared_request(declared);
  create(std::move(request), named(declared.container));
}

// ---- requests ----------------------------------------------------------------------------------

Answer<std::string> ReverseForwards::add(ContainerAccess* reach, ForwardRequest request) {
  if (stopped_)
    return refuse(Kind::Failed, "portfwd is ending: ask again when it has started anew");
  const auto by_hand = std::ranges::count_if(forwards_, [](const auto& entry) {
    return entry.second.forward->origin() == Origin::Manual;
  });
  if (auto room = check_count(by_hand); !room) return std::unexpected(room.error());
  if (reach != nullptr) request.spec.container = reach->container().name;
  if (const ReverseForward* there = find_target(request.spec.container, request.spec.target)) {
    return refuse(
        Kind::InvalidArgument,
        fmt::format("port {} of {} leads to the host already: end that forward first with "
                    "`portfwdctl unforward {}`",
                    request.spec.target.text(), request.spec.container, there->id()));
  }
  if (reach == nullptr) reach = named(request.spec.container);
  const bool persist = request.spec.persist;
  const bool restored = request.restored;
  const ReverseForward& made = create(std::move(request), reach);
  if (made.state() == ForwardState::Conflict && !restored) return give_back(made);
  if (persist) observer_.on_state_changed();
  return made.id();
}

/// A person is told at once when no port of ours can be had there at all.
Answer<std::string> ReverseForwards::give_back(const ReverseForward& forward) {
  const std::string because = forward.info().reason;
  withdraw(forwards_.find(forward.id()), "unforwarded");
  return refuse(Kind::Inaccessible, because);
}

ReverseForward& ReverseForwards::create(ForwardRequest request, ContainerAccess* reach) {
  request.forward_id = fmt::format("r{}", next_id_++);
  const std::string id = request.forward_id;
  ReverseForwardObserver& self = *this;  // private bases: visible here, not in make_unique
  ForwardPortObserver& ports = *this;
  auto made = std::make_unique<ReverseForward>(ReverseForward::Parts{relay_, host_, ports, self},
                                               std::move(request), port_settings());
  ReverseForward& forward = *(forwards_[id] = {std::move(made), false}).forward;
  observer_.on_forward_created(forward.info());
  if (reach != nullptr) attach(forward, *reach);
  return forward;
}

void ReverseForwards::attach(ReverseForward& forward, ContainerAccess& reach) {
  forward.attach(reach);
  observer_.on_forward_changed(forward.info());
}

/// One that can't be entered is perhaps another user's, who chose its name.
bool ReverseForwards::may_attach(const ReverseForward& forward, const ContainerAccess& reach) {
  return reach.state() == ContainerState::Watched && forward.request().meant(reach.container());
}

ContainerAccess* ReverseForwards::named(const std::string& container) const {
  const auto found = std::ranges::find_if(reaches_, [&](const auto& entry) {
    const ContainerAccess& reach = *entry.second;
    return reach.container().name == container && reach.state() == ContainerState::Watched;
  });
  return found == reaches_.end() ? nullptr : found->second;
}

Answer<void> ReverseForwards::remove(std::string_view forward_id) {
  const auto found = forwards_.find(forward_id);
  if (found == forwards_.end()) {
    return refuse(
        Kind::NoSuchForward,
        fmt::format("there is no forward \"{}\": `portfwdctl list` shows them", forward_id));
  }
  withdraw(found, "unforwarded");
  return {};
}

void ReverseForwards::end_lifeline(std::string_view bus_name) {
  for (auto it = forwards_.begin(); it != forwards_.end();) {
    const auto next = std::next(it);
    if (it->second.forward->request().lifeline == bus_name) withdraw(it, "unforwarded");
    it = next;
  }
}

void ReverseForwards::stop() {
  stopped_ = true;
  while (!forwards_.empty()) withdraw(forwards_.begin(), "daemon-stopped");
  conflict_retry_.disarm();
}

void ReverseForwards::withdraw(Forwards::iterator kept, std::string_view reason) {
  auto node = forwards_.extract(kept);
  Kept& gone = node.mapped();
  const ForwardInfo info = gone.forward->info();
  if (gone.forward->request().spec.persist) observer_.on_state_changed();
  draining_.add(gone.forward->leave(settings_.host.drain));
  observer_.on_forward_destroyed(info);
  tell_removed(gone, info, reason);
  loop_.retire(std::move(gone.forward));
}

// ---- reading -----------------------------------------------------------------------------------

std::vector<ForwardInfo> ReverseForwards::infos() const {
  std::vector<ForwardInfo> out;
  for (const auto& [id, kept] : forwards_) out.push_back(kept.forward->info());
  return out;
}

std::optional<ForwardInfo> ReverseForwards::find(std::string_view id) const {
  const auto found = forwards_.find(id);
  return found == forwards_.end() ? std::nullopt : std::optional(found->second.forward->info());
}

std::string ReverseForwards::asked_by(std::string_view id) const {
  const auto found = forwards_.find(id);
  return found == forwards_.end() ? "" : found->second.forward->request().asked_by;
}

std::vector<ForwardSpec> ReverseForwards::kept() const {
  std::vector<ForwardSpec> out;
  for (const auto& [id, kept] : forwards_) {
    const ForwardRequest& request = kept.forward->request();
    if (request.spec.persist) out.push_back(request.spec);
  }
  return out;
}

ReverseForward* ReverseForwards::find_target(std::string_view container_name,
                                             const Target& target) const {
  for (const auto& [id, kept] : forwards_) {
    const ForwardRequest& request = kept.forward->request();
    if (request.spec.container == container_name && request.spec.target == target) {
      return kept.forward.get();
    }
  }
  return nullptr;
}

// ---- containers --------------------------------------------------------------------------------

void ReverseForwards::on_access_added(ContainerAccess& reach) {
  reaches_[reach.container().id] = &reach;
  on_access_changed(reach);
}

void ReverseForwards::on_access_changed(ContainerAccess& reach) {
  for (auto& [id, kept] : forwards_) {
    if (may_attach(*kept.forward, reach)) attach(*kept.forward, reach);
  }
}

void ReverseForwards::on_access_removed(ContainerAccess& reach, RemovalReason reason) {
  reaches_.erase(reach.container().id);
  const bool detached = reason == RemovalReason::Detached;
  for (auto it = forwards_.begin(); it != forwards_.end();) {
    const auto current = it++;
    Kept& kept = current->second;
    if (kept.forward->reach() != &reach) continue;
    if (detached && kept.forward->origin() == Origin::Manual) {
      withdraw(current, "unforwarded");
      continue;
    }
    const ForwardInfo before = kept.forward->info();
    draining_.add(kept.forward->leave(Duration::zero()));
    observer_.on_forward_changed(kept.forward->info());
    tell_removed(kept, before, reason == RemovalReason::Replaced ? "replaced" : "container-gone");
  }
}

// ---- comings and goings ------------------------------------------------------------------------

void ReverseForwards::on_settled(ReverseForward& forward, bool news) {
  Kept& kept = forwards_.at(forward.id());
  if (news) observer_.on_forward_changed(forward.info());
  if (forward.state() == ForwardState::Conflict) {
    if (!conflict_retry_.armed()) conflict_retry_.arm_after(kConflictRetry);
    return;
  }
  kept.announced = true;
  observer_.on_port_added(forward.info(), 0, 1);
}

void ReverseForwards::tell_removed(Kept& kept, const ForwardInfo& info, std::string_view reason) {
  if (std::exchange(kept.announced, false)) observer_.on_port_removed(info, reason);
}

void ReverseForwards::retry_conflicts() {
  for (auto& [id, kept] : forwards_) {
    if (kept.forward->state() == ForwardState::Conflict) {
      kept.forward->attach(*kept.forward->reach());
    }
  }
}

}  // namespace portfwd
