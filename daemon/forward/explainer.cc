#include "forward/explainer.h"

#include <fmt/format.h>

#include <algorithm>

#include "forward/container_info.h"

namespace portfwd {

namespace {

using Kind = Refusal::Kind;

bool listens(const Reach& reach, Target target) {
  return std::ranges::any_of(reach.listeners(), [&](const Listener& l) {
    return Target{l.protocol, l.local.port} == target;
  });
}

ForwardKey key_of(const Container& container, Target target) {
  return {container.id, target.protocol, target.port};
}

Refusal nobody_has(Target target) {
  return {Kind::NoSuchContainer,
          fmt::format("port {} is open in no container that is watched: `portfwdctl containers "
                      "--all` lists them, those that can't be entered too",
                      target.text())};
}

Refusal several_have(Target target, const std::string& one, const std::string& other) {
  return {Kind::Ambiguous, fmt::format("port {} is open in {} and in {}: name one of them",
                                       target.text(), one, other)};
}

}  // namespace

Answer<Facts> Explainer::explain(std::string_view container, Target target) const {
  const auto gathered = container.empty() ? known_by_port(target) : known(container, target);
  if (!gathered) return std::unexpected(gathered.error());
  return portfwd::explain(parts_.table.policy(), *gathered);
}

/// A container that is away is known by the forward that waits for it.
Answer<Known> Explainer::known(std::string_view container, Target target) const {
  if (const auto found = parts_.registry.resolve(container)) {
    return present(*parts_.reaches.find((*found)->id), target);
  } else if (const auto waits = parts_.table.find(away_key(container, target))) {
    return missing(*waits, target);
  } else {
    return std::unexpected(found.error());
  }
}

Answer<Known> Explainer::known_by_port(Target target) const {
  std::vector<Known> all;
  for (const Reach* reach : parts_.reaches.all()) {
    const bool forwarded = parts_.table.find(key_of(reach->container(), target)).has_value();
    if (forwarded || listens(*reach, target)) all.push_back(present(*reach, target));
  }
  for (const ForwardInfo& f : parts_.table.infos()) {
    const bool waits = f.container_id.empty() && Target{f.protocol, f.container_port} == target;
    if (waits) all.push_back(missing(f, target));
  }
  if (all.empty()) return std::unexpected(nobody_has(target));
  if (all.size() > 1) {
    return std::unexpected(several_have(target, all[0].container.name, all[1].container.name));
  }
  return std::move(all.front());
}

Known Explainer::present(const Reach& reach, Target target) const {
  const Container& container = reach.container();
  Known known{.subject = &container,
              .container = info_of(reach, parts_.settings),
              .target = target,
              .listeners = parts_.table.seen(container, target),
              .suppressed = parts_.table.suppressed(container, target)};
  add_forward(key_of(container, target), known);
  for (const ForwardInfo& f : parts_.table.infos()) {
    if (f.container_id == container.id && f.origin == Origin::Auto) ++known.auto_forwards;
  }
  return known;
}

Known Explainer::missing(const ForwardInfo& forward, Target target) const {
  Known known{.target = target};
  known.container.name = forward.container_name;
  add_forward(away_key(forward.container_name, target), known);
  return known;
}

void Explainer::add_forward(const ForwardKey& key, Known& known) const {
  known.forward = parts_.table.find(key);
  for (const ForwardInfo& f : parts_.reverse.infos()) {
    const bool there = f.container_id == key.container &&
                       Target{f.protocol, f.container_port} == Target{key.protocol, key.port};
    if (there && !known.forward) known.forward = f;
  }
  if (!known.forward) return;
  known.asked_by = parts_.table.asked_by(known.forward->id);
  known.tried = parts_.table.tried(key);
}

}  // namespace portfwd
