#include "api/explain.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <iterator>
#include <utility>

#include "api/controller.h"
#include "base/text.h"
#include "policy/policy.h"

namespace portfwd {

namespace {

using Sentences = std::vector<std::string>;

std::string clock_text(WallTime time) {
  return fmt::format("{:%F %T} UTC", fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

bool is_reverse(const PortState& known) {
  return known.forward && known.forward->direction == Direction::Reverse;
}

/// What else is known of a listener, as the end of "listens on ADDRESS".
std::string details(const Listener& l) {
  std::string uid =
      l.uid == kUnknownUid ? "uid unknown" : fmt::format("uid {} inside", l.uid);
  if (l.target().port() != nullptr) return uid;
  return fmt::format("{}, {}{}", name_of(l.type), uid,
                     l.backlog == 0 ? "" : fmt::format(", backlog {}", l.backlog));
}

std::string_view end_reason_text(std::string_view reason) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kReasons{{
      {"listener-closed", "its listener closed"},
      {"container-gone", "its container ended"},
      {"unforwarded", "it was ended by the user"},
      {"rule", "the configuration no longer forwards it"},
      {"replaced", "it was replaced"},
  }};
  const auto known =
      std::ranges::find(kReasons, reason, &std::pair<std::string_view, std::string_view>::first);
  return known == kReasons.end() ? reason : known->second;
}

/// Adds how the previous forward ended, unless there is a forward again.
void add_ended(const PortState& known, Sentences& out) {
  if (!known.ended || known.forward) return;
  const auto& [forward, when, reason] = *known.ended;
  out.push_back(fmt::format("it was forwarded at {}, port {}, until {}: {}",
                            fmt::join(forward.host_addresses, " and "), forward.host_port,
                            clock_text(when), end_reason_text(reason)));
}

/// The words for a listener of an unknown program. Finding the program needs permission to list the
/// descriptors of its process.
std::string_view unknown_program(AccessKind reach) {
  const bool roots = reach == AccessKind::Bridge || reach == AccessKind::Helper;
  return roots ? "an unknown program (its process belongs to root, and only root can list its "
                 "sockets)"
               : "an unknown program";
}

Sentences seen_now(const PortState& known) {
  if (known.detached) return {"its container was detached and is not watched"};
  if (known.subject == nullptr) return {"there is no container of this name"};
  if (is_reverse(known)) return {"portfwd itself listens on it inside, for a service of the host"};
  if (known.listeners.empty()) {
    if (!known.other_protocol) return {"nothing listens on it inside"};
    return {fmt::format("nothing listens on it inside, but something listens on {}",
                        other_protocol(known.target)->text())};
  }
  Sentences out;
  for (const auto& [l, since, settling] : known.listeners) {
    const std::string_view who =
        l.process.empty() ? unknown_program(known.container.reach) : std::string_view(l.process);
    out.push_back(fmt::format("{} listens on {} ({}), seen since {}", who,
                              printable(l.local.text()), details(l), clock_text(since)));
  }
  return out;
}

Sentences seen(const PortState& known) {
  Sentences out = seen_now(known);
  add_ended(known, out);
  return out;
}

/// The listener for which the rules are evaluated while the port is closed: of an unknown program,
/// on loopback, or on all addresses for a port that the engine publishes.
Listener hypothetical_listener(const PortState& known) {
  const bool published = !published_at(known.subject->published, known.target).empty();
  return listener_at(known.target,
                     published ? IpAddress::any(Family::V4) : IpAddress::loopback(Family::V4));
}

/// The rules that were tried for each listener, preceded by its address if there are several.
Sentences rules(const PolicyContext& policy, const PortState& known) {
  if (known.subject == nullptr || is_reverse(known)) return {};
  if (known.listeners.empty()) {
    return rules_tried(policy.settings, *known.subject, hypothetical_listener(known));
  }
  Sentences out;
  for (const SeenPort::Seen& seen : known.listeners) {
    for (const std::string& rule : rules_tried(policy.settings, *known.subject, seen.listener)) {
      const bool several = known.listeners.size() > 1;
      const std::string at = several ? printable(seen.listener.local.text()) + ": " : "";
      out.push_back(at + rule);
    }
  }
  return out;
}

std::string reach_sentence(const PortState& known) {
  const ContainerInfo& container = known.container;
  if (known.subject == nullptr) {
    if (known.detached) return "its container was detached";
    return known.forward ? "the forward waits for a container of this name"
                         : "its container has ended";
  }
  if (container.reach == AccessKind::None) return container.reason;
  return std::string(how(container.reach));
}

/// The words for a state after "is".
std::string_view state_words(ForwardState state) {
  return state == ForwardState::Conflict ? "in conflict" : name_of(state);
}

std::string host_sentence(const ForwardInfo& f) {
  if (f.state == ForwardState::Conflict) return f.reason;
  std::string text = fmt::format("{}, port {}", fmt::join(f.host_addresses, " and "), f.host_port);
  if (f.direction == Direction::Reverse) text = "it leads to " + text;
  if (!f.reason.empty()) text += ": " + f.reason;
  return text;
}

/// The decision for a port with several listeners: that of the first listener that must be
/// forwarded, or else of the first one.
struct PortDecision {
  const SeenPort::Seen* seen = nullptr;  ///< null: no listener, see imagined()
  Decision decision;
};

PortDecision decide_port(const PolicyContext& policy, const PortState& known) {
  PortDecision out;
  for (const SeenPort::Seen& seen : known.listeners) {
    Decision decision = decide(policy, *known.subject, seen.listener);
    const bool forward = decision.forward;
    if (forward || out.seen == nullptr) out = {&seen, std::move(decision)};
    if (forward) break;
  }
  if (out.seen == nullptr)
    out.decision = decide(policy, *known.subject, hypothetical_listener(known));
  return out;
}

using Code = RemedyCode;
using Remedies = std::vector<Remedy>;

/// A remedy that takes the container and the target as its arguments.
Remedy for_port(Code code, const PortState& known, const Target& target) {
  return {code, {known.container.name, printable(target.text())}};
}

/// The remedies for a listener that the configuration does not forward: the change of it, and a
/// manual forward.
struct ConfigureTarget {
  Remedy forward;
  Remedies operator()(const UnixPath& target) const { return include(target.path); }
  Remedies operator()(const AbstractName& target) const { return include("@" + target.name); }
  Remedies operator()(const auto&) const { return {{Code::ChangeConfiguration}, forward}; }

 private:
  [[nodiscard]] Remedies include(const std::string& name) const {
    return {{Code::IncludeSocket, {printable(name)}}, forward};
  }
};

struct Verdict {
  std::string decision;
  Remedies remedies;
};

Verdict nothing_listens(const PortState& known, const Decision& decision) {
  const Remedy hold = for_port(Code::HoldPort, known, known.target);
  if (known.other_protocol) {
    return {"there is nothing to forward",
            {for_port(Code::ExplainPort, known, *other_protocol(known.target)), hold}};
  }
  if (decision.forward) return {"there is nothing to forward", {{Code::StartServer}, hold}};
  return {fmt::format("there is nothing to forward, and a server would not be forwarded: {}",
                      decision.because),
          {hold}};
}

Remedy attach_again(const ContainerInfo& container) {
  if (container.pid == 0) return {Code::AttachContainer, {container.name}};
  return {Code::AttachProcess, {std::to_string(container.pid), container.name}};
}

/// The first obstacle of a port without a forward, and its remedy.
Verdict first_obstacle(const PolicyContext& policy, const PortState& known) {
  if (known.detached) return {"its container was detached", {attach_again(known.container)}};
  if (known.subject == nullptr) {
    return {"its container has ended",
            {{Code::StartContainer, {known.container.name}},
             for_port(Code::HoldPortForMissing, known, known.target)}};
  }
  if (known.container.state == ContainerState::Inaccessible) {
    return {"the container cannot be entered", {{Code::MakeAccessible, {known.container.reason}}}};
  }
  const auto [seen, decision] = decide_port(policy, known);
  if (seen == nullptr) return nothing_listens(known, decision);
  const Remedy forward = for_port(Code::ForwardPort, known, known.target);
  if (known.suppressed) {
    return {"it was ended by the user and its listener has not closed since", {forward}};
  }
  if (!decision.forward && !seen->listener.unreachable.empty()) {
    return {"the listener cannot be dialled",
            {{Code::MakeReachable, {seen->listener.unreachable}}}};
  }
  if (!decision.forward) {
    return {decision.because, std::visit(ConfigureTarget{forward}, known.target)};
  }
  if (seen->settling > Duration::zero()) {
    return {
        fmt::format("{}, but its listener must exist for {} ms first", decision.because,
                    std::chrono::duration_cast<std::chrono::milliseconds>(decision.settle).count()),
        {{Code::ExplainAgain}, {Code::SkipSettle}}};
  }
  if (known.full) {
    return {fmt::format("{} of its sockets are forwarded already",
                        policy.settings.unix_sockets.max_sockets),
            {{Code::RaiseMaxSockets}, forward}};
  }
  if (known.auto_forwards >= policy.settings.host.max_forwards) {
    return {fmt::format("the container and those that share its limit have {} forwards already",
                        known.auto_forwards),
            {{Code::RaiseMaxForwards}, forward}};
  }
  return {"it is about to be forwarded", {{Code::ExplainAgain}}};
}

std::string decision_sentence(const PolicyContext& policy, const PortState& known) {
  if (!known.asked_by.empty()) return known.asked_by;
  if (known.forward->origin == Origin::Declared)
    return "a [[forward]] of the configuration declares it";
  if (known.forward->origin == Origin::Manual) return "a manual request";
  if (known.listeners.empty()) return "its listener has just closed";
  return decide_port(policy, known).decision.because;
}

Remedy remedy_ending(const ForwardInfo& f) {
  if (f.origin == Origin::Declared) return {Code::ChangeDeclaration};
  return {Code::EndForward, {f.id}};
}

Remedies remedies_for_conflict(const PolicyContext& policy, const PortState& known) {
  const ForwardInfo& f = *known.forward;
  if (Remedies remedies = remedies_of(f); !remedies.empty()) {
    if (f.origin != Origin::Auto) remedies.push_back(remedy_ending(f));
    return remedies;
  }
  if (f.direction == Direction::Reverse) return {{Code::FreeContainerPort}, remedy_ending(f)};
  if (f.origin == Origin::Declared) return {{Code::FreeHostPort}, remedy_ending(f)};
  const bool only =
      f.origin == Origin::Auto && decide_port(policy, known).decision.treatment.require_host_port;
  return {{Code::FreeHostPort}, {only ? Code::AllowFallback : Code::WidenFallbackRange}};
}

/// The remedies for a server on an address that cannot be reached within its namespace.
Remedies remedies_for_unreachable(const PortState& known) {
  const ForwardInfo& f = *known.forward;
  if (known.container.reach == AccessKind::Bridge) return {};
  const IpAddress address = IpAddress::parse(f.container_address).value_or(IpAddress());
  const bool on_loopback = address.is_loopback() || address.is_any();
  if (f.error == ETIMEDOUT && on_loopback) return {{Code::SetLoopbackUp}, {Code::CheckServer}};
  const bool no_route = f.error == ENETUNREACH || f.error == ENETDOWN || f.error == EADDRNOTAVAIL;
  if (!no_route) return {};
  if (on_loopback) return {{Code::SetLoopbackUp}};
  return {{Code::SetInterfaceUp, {f.container_address}}};
}

/// The remedies for a port that has a forward.
Remedies remedies_for_forward(const PolicyContext& policy, const PortState& known) {
  const ForwardInfo& f = *known.forward;
  if (f.state == ForwardState::Conflict) return remedies_for_conflict(policy, known);
  if (known.subject == nullptr) {
    return {{Code::StartContainer, {f.container_name}}, remedy_ending(f)};
  }
  const bool waits = f.state == ForwardState::Waiting && f.direction == Direction::In;
  if (!waits) return {remedy_ending(f)};
  if (Remedies remedies = remedies_for_unreachable(known); !remedies.empty()) return remedies;
  return {{known.listeners.empty() ? Code::StartServer : Code::IgnorePort}, remedy_ending(f)};
}

void add_remedies(Remedies remedies, Facts& facts) {
  assert(!remedies.empty());
  facts["remedy"] = remedy_sentence(remedies);
  facts["remedies"] = std::move(remedies);
}

void add_forward(const PolicyContext& policy, const PortState& known, Facts& facts) {
  const ForwardInfo& f = *known.forward;
  facts["forwarded"] = f.state != ForwardState::Conflict;
  facts["host"] = host_sentence(f);
  facts["decision"] = decision_sentence(policy, known);
  add_remedies(remedies_for_forward(policy, known), facts);
  const bool at = f.direction == Direction::In && f.state != ForwardState::Conflict;
  facts["summary"] = fmt::format("{} of {} is {}{}{}", named(known.target), known.container.name,
                                 state_words(f.state), at ? " at " : ": ", host_sentence(f));
}

void add_verdict(Verdict verdict, const PortState& known, Facts& facts) {
  facts["forwarded"] = false;
  facts["host"] = std::string("no host port is held for it");
  facts["summary"] = fmt::format("{} of {} is not forwarded: {}", named(known.target),
                                 known.container.name, verdict.decision);
  facts["decision"] = std::move(verdict.decision);
  add_remedies(std::move(verdict.remedies), facts);
}

/// The facts that every explanation has.
Facts facts_of(const PortState& known) {
  return {{"container", known.container.name},
          {"port", std::int64_t{known.target.port_number()}},
          {"protocol", std::string(name_of(known.target.protocol()))},
          {"target", printable(known.target.text())}};
}

/// The explanation for a container that shares the network of the host, which is not polled.
Facts explain_on_host(const PortState& known) {
  const std::string& name = known.container.name;
  const std::string what = named(known.target);
  Facts facts = facts_of(known);
  facts["seen"] = Sentences{"its listeners are those of the host, which are not polled"};
  facts["rules"] = Sentences();
  facts["tried"] = Sentences();
  facts["reach"] = known.container.reason;
  facts["forwarded"] = false;
  facts["summary"] =
      fmt::format("{} of {} is not forwarded: {}", what, name, known.container.reason);
  if (known.target.port() == nullptr) {
    facts["host"] = std::string("no host port is held for it");
    facts["decision"] = std::string("the sockets of the host are not watched");
    add_remedies({{Code::LeaveHostNetwork}}, facts);
    return facts;
  }
  facts["host"] = fmt::format("{} itself, if {} listens on it", what, name);
  facts["decision"] = std::string("a port of the host needs no forward");
  add_remedies({{Code::UseHostPort, {known.target.text()}}, {Code::LeaveHostNetwork}}, facts);
  return facts;
}

}  // namespace

Facts explain(const PolicyContext& policy, const PortState& known) {
  if (known.subject != nullptr && known.subject->on_host) return explain_on_host(known);
  Facts facts = facts_of(known);
  facts["seen"] = seen(known);
  facts["rules"] = rules(policy, known);
  facts["tried"] = known.tried;
  facts["reach"] = reach_sentence(known);
  if (known.forward) {
    add_forward(policy, known, facts);
  } else {
    add_verdict(first_obstacle(policy, known), known, facts);
  }
  return facts;
}

namespace {

using Kind = Refusal::Kind;

bool listens(const ContainerAccess& reach, const Target& target) {
  return std::ranges::any_of(reach.listeners(),
                             [&](const Listener& l) { return l.target() == target; });
}

Refusal open_with_other_protocol(const Target& target, const Target& other) {
  return {Kind::NoSuchContainer, fmt::format("{} is not open in any watched container, but {} is",
                                             named(target), other.text())};
}

Refusal not_open(const Target& target) {
  return {Kind::NoSuchContainer,
          fmt::format("{} is not open in any watched container", named(target))};
}

/// The name of a container, with its id if the name is ambiguous.
std::string name_with_id(const PortState& known, bool by_id) {
  const ContainerInfo& container = known.container;
  return by_id && !container.id.empty() ? fmt::format("{} ({})", container.name, container.id)
                                        : container.name;
}

/// @param all two or more
Refusal open_in_several(const Target& target, const std::vector<PortState>& all) {
  const bool by_id = all[0].container.name == all[1].container.name;
  return {Kind::Ambiguous, fmt::format("{} is open in {} and in {}: name one of them{}",
                                       named(target), name_with_id(all[0], by_id),
                                       name_with_id(all[1], by_id), by_id ? " by its id" : "")};
}

}  // namespace

Answer<Facts> Explainer::explain(std::string_view container, const Target& asked) const {
  const Target target = listed_as(asked);
  const auto gathered = container.empty() ? known_by_port(target) : known(container, target);
  if (!gathered) return std::unexpected(gathered.error());
  return portfwd::explain(parts_.table.policy(), *gathered);
}

/// The target of the listener that is displayed by this text, if no listener has the target itself:
/// the name of a Unix socket may have bytes that are not displayed, or not sent over a bus.
Target Explainer::listed_as(const Target& asked) const {
  if (asked.port() != nullptr) return asked;
  const std::string text = asked.text();
  std::optional<Target> similar;
  for (const ContainerAccess* reach : parts_.access_set.all()) {
    for (const Listener& l : reach->listeners()) {
      const Target target = l.target();
      if (target == asked) return asked;
      if (!similar && printable(target.text()) == text) similar = target;
    }
  }
  return similar.value_or(asked);
}

/// A missing container is found by the forward that waits for it, or by the event log.
Answer<PortState> Explainer::known(std::string_view container, const Target& target) const {
  const auto found = parts_.registry.resolve(container);
  if (found) {
    const ContainerAccess* reach = parts_.access_set.find((*found)->id);
    assert(reach != nullptr);  // AccessSet observes the registry
    return present(*reach, target);
  }
  for (const ForwardInfo& f : forwards_of(target)) {
    if (f.container_id.empty() && f.container_name == container) return missing(f, target);
  }
  if (found.error().kind == Kind::NoSuchContainer) {
    if (auto was = past(container, target)) return std::move(*was);
  }
  return std::unexpected(found.error());
}

Answer<PortState> Explainer::known_by_port(const Target& target) const {
  const std::vector<ForwardInfo> forwards = forwards_of(target);
  std::vector<PortState> all;
  for (const ContainerAccess* reach : parts_.access_set.all()) {
    const bool forwarded = std::ranges::any_of(
        forwards, [&](const ForwardInfo& f) { return f.container_id == reach->container().id; });
    if (forwarded || listens(*reach, target)) all.push_back(present(*reach, target));
  }
  for (const ForwardInfo& f : forwards) {
    if (f.container_id.empty()) all.push_back(missing(f, target));
  }
  if (all.empty()) {
    if (auto was = past("", target)) return std::move(*was);
    const auto other = other_protocol(target);
    return std::unexpected(other && is_open(*other) ? open_with_other_protocol(target, *other)
                                                    : not_open(target));
  }
  if (all.size() > 1) {
    return std::unexpected(open_in_several(target, all));
  }
  return std::move(all.front());
}

/// Whether any container has a listener or a forward of this port.
bool Explainer::is_open(const Target& target) const {
  const auto& access_set = parts_.access_set.all();
  return std::ranges::any_of(access_set,
                             [&](const ContainerAccess* r) { return listens(*r, target); }) ||
         !forwards_of(target).empty();
}

/// All forwards of this container port, those of direction `in` first.
std::vector<ForwardInfo> Explainer::forwards_of(const Target& target) const {
  std::vector<ForwardInfo> out;
  for (const Direction direction : {Direction::In, Direction::Reverse}) {
    for (const ListedForward& listed : parts_.table.forwards().all()) {
      const ForwardKey& key = listed.forward->key();
      if (key.direction == direction && key.target == target) out.push_back(listed.forward->info());
    }
  }
  return out;
}

PortState Explainer::present(const ContainerAccess& reach, const Target& target) const {
  const Container& container = reach.container();
  SeenPort seen = parts_.table.seen(container, target);
  const auto other = other_protocol(target);
  PortState known{.subject = &container,
                  .container = info_of(reach, parts_.settings),
                  .target = target,
                  .listeners = std::move(seen.listeners),
                  .other_protocol = other && listens(reach, *other),
                  .suppressed = seen.suppressed,
                  .auto_forwards = seen.automatic,
                  .full = seen.full};
  for (const ForwardInfo& f : forwards_of(target)) {
    if (f.container_id != container.id) continue;
    add_forward(f, known);
    break;
  }
  known.ended = ended(container.id, target);
  if (!known.ended)
    known.ended = ended(container.name, target);  // of an earlier container with this name
  return known;
}

PortState Explainer::missing(const ForwardInfo& forward, const Target& target) const {
  PortState known{.target = target};
  known.container.name = forward.container_name;
  add_forward(forward, known);
  return known;
}

std::optional<EndedForward> Explainer::ended(std::string_view container,
                                             const Target& target) const {
  const auto event = parts_.log.last_removal(container, target);
  if (!event) return std::nullopt;
  return EndedForward{std::get<ForwardInfo>(event->subject), event->time, event->reason};
}

std::optional<PortState> Explainer::past(std::string_view container, const Target& target) const {
  auto end = ended(container, target);
  if (!end) return std::nullopt;
  if (const ContainerAccess* reach = parts_.access_set.find(end->forward.container_id)) {
    return present(*reach, target);
  }
  PortState known{.target = target};
  known.container.name = end->forward.container_name;
  if (const auto removed = parts_.log.detached(end->forward.container_id)) {
    known.detached = true;
    known.container.pid = removed->pid;
  }
  known.ended = std::move(end);
  return known;
}

void Explainer::add_forward(const ForwardInfo& forward, PortState& known) const {
  known.forward = forward;
  const ForwardRequest* request = parts_.table.requests().find(forward.id);
  if (request != nullptr) known.asked_by = request->asked_by;
  known.tried = tried(forward.id);
}

/// Host addresses that the forward tried to bind and that are taken, with their current holders.
/// Only the first few are kept.
std::vector<std::string> Explainer::tried(std::string_view forward_id) const {
  std::vector<std::string> out;
  const ForwardSet& forwards = parts_.table.forwards();
  const Forward* forward = forwards.find_id(forward_id);
  if (forward == nullptr || forward->on_host() == nullptr) return out;
  for (const BindFailure& failure : forward->on_host()->failures()) {
    out.push_back(fmt::format("{}: {}", failure.address.text(),
                              forwards.host_ports().taken_sentence(failure)));
  }
  return out;
}

}  // namespace portfwd
