// The forward table: reconciles the forwards that exist with those that should. For one container
// at a time it derives the *desired* forwards (plan.h) from the listeners, the settings and the
// requests (requested_forwards.h), compares them with the existing ones (forward_set.h) and applies
// the difference. A new listener, a reload, a container's return and a removed forward all use the
// same step. Owned by the Controller. It does not depend on the bus, nor on the kind of access to a
// container.
//
// An event only marks containers in the ReconcileQueue. reconcile_dirty() does the work, at most
// once in a turn of the loop, so nothing edits a collection that a caller walks and the order of
// events does not matter. There are two exceptions: a request needs its answer at once, so add()
// reconciles its container; and the end of a container withdraws its forwards at once, since their
// dialers end. The work of one turn is bounded in time and in the number of ports that are tried;
// the rest follows in the next turns.
#pragma once

#include <algorithm>
#include <cassert>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
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

/// The listeners of a container's port, for `explain`.
struct SeenPort {
  struct Seen {
    Listener listener;
    WallTime since{};     ///< when it was first seen
    Duration settling{};  ///< rest of its `settle` time; zero or less: it is over
  };
  std::vector<Seen> listeners;
  bool full = false;        ///< the container has as many such forwards as most_of_kind() permits
  bool suppressed = false;  ///< the user ended the forward and its listener is still there
  /// Detected forwards of all containers that share the limit [host] max_forwards with this one.
  std::size_t automatic = 0;
};

// Groups of containers that share one `max_forwards` for their detected forwards: a container
// of an engine with the sandboxes inside it, or all network namespaces below one user namespace,
// since a process that can make one there can make any number. Owned by the ForwardTable.
//
// A group is within the limit, or over the limit while one of its containers lacks a forward
// because of it. Observers are notified once each time that a group becomes over the limit.
class ForwardGroups {
 public:
  /// Adds a container to its group_of(), or moves it there. @param engines all containers of
  /// engines
  /// @param automatic the number of its detected forwards
  void join(const Container& container, std::span<const Container* const> engines,
            std::size_t automatic);
  /// Removes a container, which must have no detected forwards; the last one removes the group.
  void leave(const std::string& container_id);
  /// Counts a detected forward that was created (1) or ended (-1). @return the containers that lack
  /// one and can have it now
  std::vector<std::string> count(const std::string& container_id, int change);
  /// The number of detected forwards of the container's group; 0 before join().
  [[nodiscard]] std::size_t automatic(const std::string& container_id) const;
  /// Notes whether the container lacks a forward because of the limit. @return whether the group
  /// has just become over the limit
  bool set_over(const std::string& container_id, bool over);

 private:
  struct Group {
    std::set<std::string> members;  ///< ids of containers
    std::set<std::string> over;     ///< those that lack a forward because of the limit
    std::size_t automatic = 0;      ///< detected forwards of all members
  };
  [[nodiscard]] Group& group_of_member(const std::string& container_id);
  void take_out(const std::string& container_id, std::size_t automatic);

  std::map<std::string, Group> groups_;
  std::map<std::string, std::string> keys_;  ///< of the group, by container id
};

/// The key of the container's group: the container of an engine that it is, or that has it in its
/// cgroup; else the direct child of our user namespace that owns its network namespace, or contains
/// the owner; else the container alone. A process inside cannot change any of these.
/// @param engines all containers of engines
[[nodiscard]] std::string group_of(const Container& container,
                                   std::span<const Container* const> engines);

/// The queue of containers to be reconciled, and the time of the next work. Owned by the
/// ForwardTable; containers are identified by id.
///
///   dirty    the listeners of a container, or settings or requests for them, changed
///   changed  dirty, and its facts changed as well, or it is new
///
/// Between begin_turn() and end_turn() the table works, for about kTimePerTurn. Then it rests until
/// no source was ready for kQuiet, since a new connection needs several turns of the loop. The rest
/// lasts at most three times as long as the work, and at most kLongestRest.
class ReconcileQueue {
 public:
  static constexpr Duration kTimePerTurn = std::chrono::milliseconds(2);
  static constexpr Duration kLongestRest = std::chrono::milliseconds(30);
  static constexpr Duration kQuiet = std::chrono::milliseconds(1);

  /// @param work called from the loop when work is due
  ReconcileQueue(EventLoop& loop, std::move_only_function<void()> work)
      : loop_(loop), work_(std::move(work)), timer_(loop, [this] { end_rest(); }) {}

  /// Makes a container dirty. One that is dirty already keeps its place in the queue.
  void mark(const std::string& id) {
    if (marked_.insert(id).second) queue_.push_back(id);
    schedule(loop_.now());
  }
  void mark_changed(const std::string& id) {
    changed_.insert(id);
    mark(id);
  }
  /// Must be called before a container is removed. @return whether it was `changed`
  bool forget_changed(const std::string& id) { return changed_.erase(id) != 0; }
  [[nodiscard]] std::set<std::string> extract_changed() { return std::exchange(changed_, {}); }
  /// Removes and returns the container that was marked first. dirty() must be above 0.
  [[nodiscard]] std::string pop() {
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
  /// Whether the time of this turn is used up.
  [[nodiscard]] bool turn_over() const { return loop_.now() >= ends_; }
  void end_turn() {
    const TimePoint now = loop_.now();
    rest_until_ = now + std::min(3 * (now - began_), kLongestRest);
    quiet_at_ = now + kQuiet;
  }
  /// Schedules the work for `at`, or for the end of the rest if that is later.
  void schedule(TimePoint at) {
    const TimePoint when = std::max(at, std::min(quiet_at_, rest_until_));
    if (!stopped_ && (!timer_.armed() || timer_.when() > when)) timer_.arm_at(when);
  }
  /// Clears the queue and schedules nothing from now on.
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
  TimePoint rest_until_{};  ///< latest end of the rest
  TimePoint quiet_at_{};    ///< earliest end of the rest
  Timer timer_;
  bool stopped_ = false;
};

class ForwardTable final : public AccessObserver {
 public:
  struct Parts {
    EventLoop& loop;
    RelayServices relay;
    const PortHolder& holders;
    HostPathParts host_paths;
    Notifier& notifier;
    std::function<void()> on_state_changed;  ///< state() has changed
  };
  /// @param settings those in force, borrowed; see apply_settings()
  /// @param state the state() of the daemon's last run
  ForwardTable(const Parts& parts, const Settings& settings, const State& state);

  /// The part of the State that the table owns: host ports, addresses, forward ids and persistent
  /// requests.
  [[nodiscard]] State state() const;

  /// Applies changed settings: withdraws forwards that are no longer allowed and creates those that
  /// are now. Forwards that stay keep their connections.
  void apply_settings();
  /// Reconciles the marked containers, then retries forwards in conflict, as far as the time of a
  /// turn permits. Called from the loop when the queue says so.
  void reconcile_dirty();

  /// See ForwardIds::forget_former().
  void forget_former_ids() { forwards_.ids().forget_former(); }

  /// Creates the forwards that the settings declare, as apply_settings() does.
  void declare();
  /// Creates the forward of a request. @param access to the container; null while it is away
  /// (allow_missing) @return the forward's id
  Answer<std::string> add(ContainerAccess* access, ForwardRequest request);
  /// Ends a forward. Its port is not forwarded automatically until its listener has closed.
  Answer<void> remove(std::string_view forward_id);
  /// Ends all forwards with the reason `daemon-stopped`. None is created from now on.
  void stop();
  /// Whether there are containers or declarations to reconcile.
  [[nodiscard]] bool busy() const { return !queue_.empty() || requested_.due(); }

  [[nodiscard]] const ForwardSet& forwards() const { return forwards_; }
  [[nodiscard]] const RequestBook& requests() const { return requested_.book(); }
  [[nodiscard]] SeenPort seen(const Container& container, const Target& target) const;
  /// The context for decide(). Its parts are borrowed.
  [[nodiscard]] PolicyContext policy() const {
    return {settings_, ephemeral_, requested_.metadata_policy()};
  }

  void on_access_added(ContainerAccess& access) override;
  void on_access_changed(ContainerAccess& access) override;
  void on_listeners(ContainerAccess& access) override;
  void on_access_removed(ContainerAccess& access, RemovalReason reason) override;

 private:
  struct Entry {
    ContainerAccess* access = nullptr;
    std::vector<std::string> names;  ///< its lasting_names() when its facts were last read
    std::string project;             ///< likewise its compose project
    std::set<Target> suppressed;
    ListenerAges ages;
    TimePoint settled = TimePoint::max();  ///< end of the next `settle` time
    std::vector<std::string> to_announce;  ///< ids of new forwards, until the batch is complete

    [[nodiscard]] const Container& container() const { return access->container(); }
  };
  static constexpr unsigned kBindsPerTurn = 100;  ///< host ports that may be tried
  /// The least time for creating forwards of one container.
  static constexpr Duration kCreatingPerTurn = std::chrono::milliseconds(4);

  // Once a turn.
  void schedule();
  void begin_turn();
  void apply_changes();
  void apply_facts(Entry& entry);
  void mark_settled();
  void retry(const std::string& id);

  // One container.
  void reconcile(Entry& entry);
  [[nodiscard]] Plan plan_for(Entry& entry);
  void update_existing(Entry& entry, const Plan& plan);
  void create_missing(Entry& entry, const Plan& plan, Duration time);
  void end_forward_elsewhere(const Container& container, const Listener& listener);

  // Requests.
  void expire_metadata();
  [[nodiscard]] ContainerAccess* find_watched(const std::string& container) const;

  Parts parts_;
  const Settings& settings_;
  PortRange ephemeral_;
  std::map<std::string, Entry> entries_;  ///< by container id
  ForwardSet forwards_;
  RequestedForwards requested_;
  ReconcileQueue queue_;
  ForwardGroups groups_;
  Timer settle_timer_;
  Timer metadata_expiry_;
  bool stopped_ = false;
};

}  // namespace portfwd
