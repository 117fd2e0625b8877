#include "forward/plan.h"

#include <algorithm>
#include <cassert>
#include <span>

namespace portfwd {

namespace {

struct Targeted {
  Target target;
  const Listener* listener;
};
/// The listeners of one target.
using Group = std::span<const Targeted>;

class Planner {
 public:
  explicit Planner(const PlanInput& input) : in_(input), automatic_(input.automatic) {
    assert(std::ranges::is_sorted(in_.existing, {}, &PlanInput::Existing::place));
    by_target_.reserve(in_.listeners.size());
    for (const Listener& l : in_.listeners) by_target_.push_back({l.target(), &l});
    std::ranges::stable_sort(by_target_, {}, &Targeted::target);
    limited_ = static_cast<std::size_t>(
        std::ranges::count_if(in_.existing, [this](const PlanInput::Existing& forward) {
          return forward.last_listener != nullptr &&
                 most_of_kind(in_.policy.settings, forward.place.second).has_value();
        }));
  }

  Plan run() {
    add_requests();
    add_detected();
    add_lingering();
    return std::move(plan_);
  }

 private:
  [[nodiscard]] bool exists(const ForwardPlace& place) const {
    return std::ranges::binary_search(in_.existing, place, {}, &PlanInput::Existing::place);
  }

  void add_requests() {
    for (const ForwardRequest* request : in_.requests) {
      auto meant = listeners_for(*request, in_.listeners);
      Treatment treatment = treatment_of(in_.policy, *request, &in_.container, meant);
      plan_.forwards[{request->spec.direction, request->spec.target}] = {std::move(meant), request,
                                                                         std::move(treatment)};
    }
  }

  void add_detected() {
    for (Group rest(by_target_); !rest.empty();) {
      const Target& target = rest.front().target;
      const auto end =
          std::ranges::find_if(rest, [&](const Targeted& other) { return other.target != target; });
      const Group group = rest.first(static_cast<std::size_t>(end - rest.begin()));
      rest = rest.subspan(group.size());
      if (!in_.suppressed.contains(target)) add_detected(target, group);
    }
  }

  void add_detected(const Target& target, Group group) {
    const ForwardPlace place(Direction::In, target);
    if (plan_.forwards.contains(place)) return;
    const bool there = exists(place);
    if (!there && (plan_.over_limit || is_full(target))) return;  // no new forward is permitted
    Wanted wanted = detected(group, there);
    if (wanted.listeners.empty()) return;
    if (!there && ++automatic_ > in_.policy.settings.host.max_forwards) {
      plan_.over_limit = true;
    } else {
      if (!there && most_of_kind(in_.policy.settings, target)) ++limited_;
      plan_.forwards[place] = std::move(wanted);
    }
  }

  /// Whether the container has as many detected forwards of this kind as are permitted.
  [[nodiscard]] bool is_full(const Target& target) const {
    const auto most = most_of_kind(in_.policy.settings, target);
    return most && limited_ >= *most;
  }

  /// The listeners of one target that are to be forwarded now. A listener that returns to an
  /// existing forward does not have to settle again. @param there whether the forward exists
  [[nodiscard]] Wanted detected(Group group, bool there) {
    Wanted wanted;
    for (const auto& [target, listener] : group) {
      Decision decision = decide(in_.policy, in_.container, *listener);
      if (!decision.forward) continue;
      const FirstSeen* first = in_.ages.find(*listener);
      assert(first != nullptr);
      const TimePoint settled = first->at + decision.settle;
      if (!there && settled > in_.now) {
        plan_.settled = std::min(plan_.settled, settled);
        continue;
      }
      if (wanted.listeners.empty()) {
        wanted.treatment = std::move(decision.treatment);
        wanted.treatment.socket_type = listener->type;
      }
      wanted.listeners.push_back(*listener);
    }
    return wanted;
  }

  /// A detected forward without a listener stays, as long as the policy would forward its last
  /// listener: the linger timer of the forward ends it.
  void add_lingering() {
    for (const PlanInput::Existing& forward : in_.existing) {
      if (forward.last_listener == nullptr) continue;
      if (std::ranges::binary_search(by_target_, forward.place.second, {}, &Targeted::target)) {
        continue;
      }
      Decision decision = decide(in_.policy, in_.container, *forward.last_listener);
      if (!decision.forward) continue;
      plan_.forwards.try_emplace(forward.place, Wanted{{}, nullptr, std::move(decision.treatment)});
    }
  }

  const PlanInput& in_;
  std::size_t automatic_;
  std::size_t limited_ = 0;  ///< detected forwards to targets for which most_of_kind() has a limit
  std::vector<Targeted> by_target_;  ///< all listeners, sorted by target, else in their order
  Plan plan_;
};

}  // namespace

Plan plan(const PlanInput& input) {
  return Planner(input).run();
}

Treatment treatment_of(const PolicyContext& policy, const ForwardRequest& request,
                       const Container* container, std::span<const Listener> listeners) {
  const Settings& settings = policy.settings;
  if (request.spec.direction == Direction::Reverse) {  // opens no host port
    return {
        .on_auto_forward = "silent", .label = request.spec.label, .socket = request.spec.socket};
  }
  const Listener listener = listeners.empty()
                                ? listener_at(request.spec.target, IpAddress::loopback(Family::V4))
                                : listeners.front();
  Treatment treatment = container == nullptr ? default_treatment(settings)
                                             : decide(policy, *container, listener).treatment;
  if (!request.spec.label.empty()) treatment.label = request.spec.label;
  if (!request.by_container || container == nullptr) {
    treatment.on_auto_forward = "notify";
  } else if (treatment.on_auto_forward == "ignore") {  // it is about detected ports alone
    treatment.on_auto_forward = "silent";
  }
  treatment.host_port = request.spec.host_port;
  treatment.require_host_port = request.spec.host_port.has_value();
  treatment.host_path = request.spec.host_path;
  treatment.socket = request.spec.socket;
  if (!listeners.empty()) treatment.socket_type = listeners.front().type;
  treatment.bind.reset();
  if (request.by_container && settings.host.bind.is_remote()) treatment.bind = Bind{};
  if (!request.spec.bind.empty()) treatment.bind = Bind{IpAddress::parse(request.spec.bind)};
  return treatment;
}

}  // namespace portfwd
