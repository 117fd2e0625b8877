#include "forward/explain.h"

#include <fmt/format.h>

#include <algorithm>

namespace portfwd {

namespace {

std::vector<Listener> listeners_on(const Known& known) {
  std::vector<Listener> out;
  std::ranges::copy_if(known.container.listeners, std::back_inserter(out), [&](const Listener& l) {
    return Target{l.protocol, l.local.port} == known.target;
  });
  return out;
}

std::vector<std::string> seen(const std::vector<Listener>& listeners) {
  if (listeners.empty()) return {"nothing listens on it inside"};
  std::vector<std::string> out;
  for (const Listener& l : listeners) {
    const std::string who = l.process.empty() ? "a program that can't be named" : l.process;
    out.push_back(fmt::format("{} listens on {} (uid {} inside)", who, l.local.text(), l.uid));
  }
  return out;
}

std::string reach_sentence(const ContainerInfo& container) {
  if (container.state != ContainerState::Watched) return container.reason;
  return fmt::format("entered through {}: its own loopback is dialled", name_of(container.reach));
}

std::string host_sentence(const ForwardInfo& f) {
  if (f.state == ForwardState::Conflict) return f.reason;
  std::string text = fmt::format("{} at {}", fmt::join(f.host_addresses, " and "), f.host_port);
  if (!f.reason.empty()) text += ": " + f.reason;
  return text;
}

/// Of the listener that decides: the first that is to be forwarded, else the first.
Decision decision_of(const PolicyContext& policy, const Known& known,
                     const std::vector<Listener>& listeners) {
  std::optional<Decision> first;
  for (const Listener& listener : listeners) {
    Decision decision = decide(policy, known.subject, listener);
    if (decision.forward) return decision;
    if (!first) first = std::move(decision);
  }
  return first.value_or(Decision{});
}

struct Verdict {
  std::string decision;
  std::string remedy;
};

/// For a port without a forward: the first thing that stands in its way.
Verdict what_stands_in_the_way(const PolicyContext& policy, const Known& known,
                               const std::vector<Listener>& listeners) {
  if (known.container.state == ContainerState::Inaccessible) {
    return {"the container can't be entered", known.container.reason};
  }
  if (listeners.empty()) {
    return {"there is nothing to forward",
            fmt::format("start the server, or hold the port with `portfwdctl forward {} {}`",
                        known.container.name, known.target.text())};
  }
  if (known.suppressed) {
    return {"it was ended by hand and its listener has not gone since",
            fmt::format("`portfwdctl forward {} {}` brings it back", known.container.name,
                        known.target.text())};
  }
  Decision decision = decision_of(policy, known, listeners);
  if (!decision.forward) {
    return {std::move(decision.because), "change portfwd.toml, then `portfwdctl reload`"};
  }
  if (known.auto_forwards >= policy.settings.host.max_forwards) {
    return {fmt::format("the container has {} forwards already", known.auto_forwards),
            "raise [host] max_forwards, or forward this port by hand"};
  }
  return {"it is about to be forwarded", "look again"};
}

}  // namespace

Facts explain(const PolicyContext& policy, const Known& known) {
  const std::vector<Listener> listeners = listeners_on(known);
  Facts facts{{"container", known.container.name},
              {"port", std::int64_t{known.target.port}},
              {"seen", seen(listeners)},
              {"reach", reach_sentence(known.container)}};
  if (known.forward) {
    const ForwardInfo& f = *known.forward;
    facts["forwarded"] = f.state != ForwardState::Conflict;
    facts["host"] = host_sentence(f);
    facts["decision"] = !known.asked_by.empty() ? known.asked_by
                        : listeners.empty()     ? "its listener has just gone"
                                                : decision_of(policy, known, listeners).because;
    facts["remedy"] = f.state == ForwardState::Conflict
                          ? "free that port, or widen [host] fallback_range"
                          : fmt::format("`portfwdctl unforward {}` ends it", f.id);
    facts["summary"] = fmt::format("port {} of {} is {}: {}", known.target.text(),
                                   known.container.name, name_of(f.state), host_sentence(f));
    return facts;
  }
  Verdict verdict = what_stands_in_the_way(policy, known, listeners);
  facts["forwarded"] = false;
  facts["host"] = std::string("no host port is held for it");
  facts["summary"] = fmt::format("port {} of {} is not forwarded: {}", known.target.text(),
                                 known.container.name, verdict.decision);
  facts["decision"] = std::move(verdict.decision);
  facts["remedy"] = std::move(verdict.remedy);
  return facts;
}

}  // namespace portfwd
