#include "forward/explainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <iterator>

#include "forward/container_info.h"

namespace portfwd {

namespace {

using Kind = Refusal::Kind;

bool listens(const ContainerAccess& reach, const Target& target) {
  return std::ranges::any_of(reach.listeners(),
                             [&](const Listener& l) { return l.target() == target; });
}

Refusal nobody_has_but(Target target, Target other) {
  return {Kind::NoSuchContainer,
          fmt::format("port {} is open in no container that is watched, but {} is: `portfwdctl "
                      "explain {}`",
                      target.text(), other.text(), other.text())};
}

Refusal nobody_has(const Target& target) {
  return {Kind::NoSuchContainer,
          fmt::format("port {} is open in no container that is watched: `portfwdctl containers "
                      "--all` lists them, those that can't be entered too",
                      target.text())};
}

/// By its id if names do not tell them apart.
std::string told_apart(const Known& known, bool by_id) {
  const ContainerInfo& container = known.container;
  return by_id && !container.id.empty() ? fmt::format("{} ({})", container.name, container.id)
                                        : container.name;
}

/// @param all two or more
Refusal several_have(Target target, const std::vector<Known>& all) {
  const bool by_id = all[0].container.name == all[1].container.name;
  return {Kind::Ambiguous, fmt::format("port {} is open in {} and in {}: name one of them{}",
                                       target.text(), told_apart(all[0], by_id),
                                       told_apart(all[1], by_id), by_id ? " by its id" : "")};
}

}  // namespace

Answer<Facts> Explainer::explain(std::string_view container, const Target& target) const {
  const auto gathered = container.empty() ? known_by_port(target) : known(container, target);
  if (!gathered) return std::unexpected(gathered.error());
  return portfwd::explain(parts_.table.policy(), *gathered);
}

/// A container that is away is known by the forward that waits for it.
Answer<Known> Explainer::known(std::string_view container, const Target& target) const {
  const auto found = parts_.registry.resolve(container);
  if (found) {
    const ContainerAccess* reach = parts_.reaches.find((*found)->id);
    assert(reach != nullptr);  // the registry tells the reaches of every container, at once
    return present(*reach, target);
  }
  for (const ForwardInfo& f : forwards_of(target)) {
    if (f.container_id.empty() && f.container_name == container) return missing(f);
  }
  if (found.error().kind == Kind::NoSuchContainer) {
    if (auto was = past(container, target)) return std::move(*was);
  }
  return std::unexpected(found.error());
}

Answer<Known> Explainer::known_by_port(const Target& target) const {
  const std::vector<ForwardInfo> forwards = forwards_of(target);
  std::vector<Known> all;
  for (const ContainerAccess* reach : parts_.reaches.all()) {
    const bool forwarded = std::ranges::any_of(
        forwards, [&](const ForwardInfo& f) { return f.container_id == reach->container().id; });
    if (forwarded || listens(*reach, target)) all.push_back(present(*reach, target));
  }
  for (const ForwardInfo& f : forwards) {
    if (f.container_id.empty()) all.push_back(missing(f));
  }
  if (all.empty()) {
    if (auto was = past("", target)) return std::move(*was);
    const Target other = other_protocol(target);
    return std::unexpected(is_open(other) ? nobody_has_but(target, other) : nobody_has(target));
  }
  if (all.size() > 1) {
    return std::unexpected(several_have(target, all));
  }
  return std::move(all.front());
}

/// In any container.
bool Explainer::is_open(const Target& target) const {
  const auto& reaches = parts_.reaches.all();
  return std::ranges::any_of(reaches,
                             [&](const ContainerAccess* r) { return listens(*r, target); }) ||
         !forwards_of(target).empty();
}

/// Of this port inside, in any container; those in direction `in` come first.
std::vector<ForwardInfo> Explainer::forwards_of(const Target& target) const {
  std::vector<ForwardInfo> all = parts_.table.infos();
  std::erase_if(all, [&](const ForwardInfo& f) {
    return Target{f.protocol, f.container_port} != target;
  });
  std::ranges::stable_sort(all, {}, &ForwardInfo::direction);
  return all;
}

Known Explainer::present(const ContainerAccess& reach, const Target& target) const {
  const Container& container = reach.container();
  Known known{.subject = &container,
              .container = info_of(reach, parts_.settings),
              .target = target,
              .listeners = parts_.table.seen(container, target),
              .other_protocol = listens(reach, other_protocol(target)),
              .suppressed = parts_.table.suppressed(container, target)};
  for (const ForwardInfo& f : forwards_of(target)) {
    if (f.container_id != container.id) continue;
    add_forward(f, known);
    break;
  }
  known.ended = ended(container.id, target);
  if (!known.ended) known.ended = ended(container.name, target);  // of one of that name before it
  for (const ForwardInfo& f : parts_.table.infos()) {
    if (f.container_id == container.id && f.origin == Origin::Auto) ++known.auto_forwards;
  }
  return known;
}

Known Explainer::missing(const ForwardInfo& forward) const {
  Known known{.target = {forward.protocol, forward.container_port}};
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

std::optional<Known> Explainer::past(std::string_view container, const Target& target) const {
  auto end = ended(container, target);
  if (!end) return std::nullopt;
  if (const ContainerAccess* reach = parts_.reaches.find(end->forward.container_id)) {
    return present(*reach, target);
  }
  Known known{.target = target};
  known.container.name = end->forward.container_name;
  if (const auto removed = parts_.log.detached(end->forward.container_id)) {
    known.detached = true;
    known.container.pid = removed->pid;
  }
  known.ended = std::move(end);
  return known;
}

void Explainer::add_forward(const ForwardInfo& forward, Known& known) const {
  known.forward = forward;
  known.asked_by = parts_.table.asked_by(forward.id);
  known.tried = parts_.table.tried(forward.id);
}

}  // namespace portfwd
