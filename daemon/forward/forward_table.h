// Which forwards there should be, and are. For one container at a time the table derives the
// *desired* forwards (plan.h) from the listeners seen, the settings and the requests
// (requested_forwards.h), compares them with those that exist (forward_set.h) and applies the
// difference: a new listener, a reload, a container's return and a removed forward are all the same
// step. It knows neither the bus nor how a container is reached.
//
// Whatever happens only marks containers in the ReconcileQueue. reconcile_dirty() does the work,
// once a turn of the loop, so nothing edits a collection that a caller walks and the order of
// events does not matter. A request that needs its answer at once has the container of the request
// reconciled explicitly; the end of a container withdraws its forwards at once, since their dialers
// end. What a turn does is bounded in time and in ports that are tried, the rest is for the next.
#pragma once

#include <algorithm>
#include <cassert>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "access/container_access.h"
#include "base/error.h"
#include "config/settings.h"
#include "event/event_loop.h"
#include "forward/forward_set.h"
#include "forward/plan.h"
#include "forward/requested_forwards.h"
#include "policy/policy.h"

namespace portfwd {

/// What is known of a port of a container, for `explain`.
struct SeenPort {
  struct Seen {
    Listener listener;
    WallTime since{};     ///< when it was first seen
    Duration settling{};  ///< so much longer it must live; zero or less: it has settled
  };
  std::vector<Seen> listeners;
  bool suppressed = false;  ///< a person ended the forward, and its listener still lives
};

/// Which containers are to be reconciled next, and when. Owned by the ForwardTable; containers are
/// known by their ids.
///
/// A container is `dirty` when its listeners, or what decides on them, changed; it is `changed` as
/// well when its facts did, or it is new. Between begin_turn() and end_turn() the table works, for
/// kTimePerTurn; then it rests until no source was ready for kQuiet, since a new connection needs
/// several turns, but no longer than three times as long as it worked.
class ReconcileQueue {
 public:
  static constexpr Duration kTimePerTurn = std::chrono::milliseconds(2);
  static constexpr Duration kLongestRest = std::chrono::milliseconds(30);
  static constexpr Duration kQuiet = std::chrono::milliseconds(1);

  /// @param work called from the loop when something is due
  ReconcileQueue(EventLoop& loop, std::move_only_function<void()> work)
      : loop_(loop), work_(std::move(work)), timer_(loop, [this] { end_rest(); }) {}

  /// One that is marked already keeps its place.
  void mark(const std::string& id) {
    if (marked_.insert(id).second) queue_.push_back(id);
    schedule(loop_.now());
  }
  void mark_changed(const std::string& id) {
    changed_.insert(id);
    mark(id);
  }
  /// A container goes. @return whether its facts had changed
  bool forget_changed(const std::string& id) { return changed_.erase(id) != 0; }
  [[nodiscard]] std::set<std::string> take_changed() { return std::exchange(changed_, {}); }
  /// Takes the one out that was marked first; precondition: dirty() > 0.
  [[nodiscard]] std::string take() {
    assert(!queue_.empty());
    std::string id = std::move(queue_.front());
    queue_.pop_front();
    marked_.erase(id);
    return id;
  }
  [[nodiscard]] std::size_t dirty() const { return queue_.size(); }
  [[nodiscard]] bool empty() const { return queue_.empty() && changed_.empty(); }

  void begin_turn() {
    began_ = loop_.now();
    ends_ = began_ + kTimePerTurn;
  }
  /// Whether no other container is to be begun in this turn.
  [[nodiscard]] bool turn_over() const { return loop_.now() >= ends_; }
  void end_turn() {
    const TimePoint now = loop_.now();
    rest_until_ = now + std::min(3 * (now - began_), kLongestRest);
    quiet_at_ = now + kQuiet;
  }
  /// Has the work done at `at`, or after the rest if that is later.
  void schedule(TimePoint at) {
    const TimePoint when = std::max(at, std::min(quiet_at_, rest_until_));
    if (!stopped_ && (!timer_.armed() || timer_.when() > when)) timer_.arm_at(when);
  }
  /// Nothing is done any more.
  void stop() {
    stopped_ = true;
    queue_.clear();
    marked_.clear();
    changed_.clear();
    timer_.disarm();
  }

 private:
  void end_rest() {
    quiet_at_ = loop_.last_io() + kQuiet;
    if (loop_.now() < std::min(quiet_at_, rest_until_)) return schedule(quiet_at_);
    work_();
  }

  EventLoop& loop_;
  std::move_only_function<void()> work_;
  std::deque<std::string> queue_;
  std::set<std::string> marked_;
  std::set<std::string> changed_;
  TimePoint began_{};
  TimePoint ends_{};
  TimePoint rest_until_{};  ///< the rest ends at the latest
  TimePoint quiet_at_{};    ///< and at the earliest
  Timer timer_;
  bool stopped_ = false;
};

class ForwardTable final : public AccessObserver {
 public:
  struct Parts {
    EventLoop& loop;
    RelayServices relay;
    const PortHolder& holders;
    Notifier& notifier;
    std::function<void()> on_state_changed;  ///< state() is not what it was
  };
  /// @param settings those in force, borrowed; see apply_settings()
  /// @param state what state() gave in the life before
  ForwardTable(const Parts& parts, const Settings& settings, const State& state);

  /// What the next life of the daemon is to know.
  [[nodiscard]] State state() const;

  /// The settings changed: what they no longer allow is withdrawn, what they newly allow appears,
  /// what stays keeps its connections.
  void apply_settings();
  /// Reconciles what is marked. The loop calls it in the turn after something was marked.
  void reconcile_dirty();

  /// See ForwardIds::forget_former().
  void forget_former_ids() { forwards_.ids().forget_former(); }

  /// Makes the forwards that the settings declare; apply_settings() does so too.
  void declare();
  /// @param access to the container; null while it is away (allow_missing) @return the forward's id
  Answer<std::string> add(ContainerAccess* access, ForwardRequest request);
  /// Ends it; an auto one stays away until its listener has gone and come back.
  Answer<void> remove(std::string_view forward_id);
  /// Ends all of them for good, with the reason `daemon-stopped`; no other is made from now on.
  void stop();
  /// Whether containers are still to be reconciled.
  [[nodiscard]] bool busy() const { return !queue_.empty() || requested_.due(); }

  [[nodiscard]] const ForwardSet& forwards() const { return forwards_; }
  [[nodiscard]] const RequestBook& requests() const { return requested_.book(); }
  [[nodiscard]] SeenPort seen(const Container& container, const Target& target) const;
  /// What decides on listeners. Its parts are borrowed.
  [[nodiscard]] PolicyContext policy() const {
    return {settings_, ephemeral_, requested_.wishes()};
  }

  void on_access_added(ContainerAccess& access) override;
  void on_access_changed(ContainerAccess& access) override;
  void on_listeners(ContainerAccess& access) override;
  void on_access_removed(ContainerAccess& access, RemovalReason reason) override;

 private:
  struct Entry {
    ContainerAccess* access = nullptr;
    std::vector<std::string> names;  ///< its lasting_names() when they were last looked at
    std::string project;             ///< likewise the compose project that it is part of
    std::set<Target> suppressed;
    ListenerAges ages;
    TimePoint settled = TimePoint::max();  ///< when the next listener has lived long enough
    std::vector<std::string> to_announce;  ///< ids of forwards that PortAdded waits for the rest of

    [[nodiscard]] const Container& container() const { return access->container(); }
  };
  static constexpr unsigned kBindsPerTurn = 100;  ///< host ports that may be tried
  static constexpr Duration kCreatingPerTurn =
      std::chrono::milliseconds(4);  ///< of one container's, at least

  // "once a turn"
  void schedule();
  void begin_turn();
  void follow_changes();
  void follow_facts(Entry& entry);
  void mark_settled();
  void retry(const std::string& id);

  // "one container"
  void reconcile(Entry& entry);
  [[nodiscard]] Plan plan_for(Entry& entry);
  void update_existing(Entry& entry, const Plan& plan);
  void create_missing(Entry& entry, const Plan& plan, Duration time);

  // "requests"
  void forget_wishes();
  [[nodiscard]] ContainerAccess* named(const std::string& container) const;

  Parts parts_;
  const Settings& settings_;
  PortRange ephemeral_;
  std::map<std::string, Entry> entries_;  ///< by container id
  ForwardSet forwards_;
  RequestedForwards requested_;
  ReconcileQueue queue_;
  ForwardGroups groups_;
  Timer settle_over_;
  Timer forget_wishes_;
  bool stopped_ = false;
};

}  // namespace portfwd
