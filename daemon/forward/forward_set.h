// The set of existing forwards, by key and by id, and the operations on them: create, bind a host
// port, announce, withdraw, drain. Owned by the ForwardTable, which decides which forwards there
// are. It notifies the observers of all changes of forwards.
//
// A forward is announced (PortAdded) when it begins to listen, and PortRemoved follows when it no
// longer listens. A forward in conflict is among the retries, unless another program took its
// port between bind(2) and listen(2): then the table replaces it. An id is never reused; a
// forward with the key of one that existed when the daemon ended has the id of that one.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <ranges>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "forward/events.h"
#include "forward/forward.h"
#include "forward/host_paths.h"
#include "forward/host_ports.h"
#include "forward/plan.h"
#include "relay/forward_port.h"
#include "relay/host_socket_dialer.h"
#include "relay/netns_dialer.h"
#include "state/state.h"

namespace portfwd {

/// Ports that no longer accept, but let their connections finish. Part of the ForwardSet, which
/// removes a port when it has drained. A port is a leftover if its listener closed by itself: it
/// has no time limit while its container lives.
class DrainingPorts {
 public:
  static constexpr Duration kNoLimit = Duration::max();

  explicit DrainingPorts(EventLoop& loop) : loop_(loop) {}

  /// @param port that is draining
  void add(std::unique_ptr<ForwardPort> port) { ports_.push_back({std::move(port), {}, false}); }
  /// @param port that is draining with kNoLimit @param container its id, for limit()
  void add_leftover(std::unique_ptr<ForwardPort> port, std::string container) {
    ports_.push_back({std::move(port), std::move(container), true});
  }
  /// Limits the leftovers of a container. @param container its id; nothing: all containers
  void limit(const std::optional<std::string>& container, Duration limit) {
    for (Draining& draining : ports_) {
      if (!draining.leftover || (container && draining.container != *container)) continue;
      draining.leftover = false;
      draining.port->drain(limit);
    }
  }
  /// Retires a port, from within its on_drained().
  void remove(const ForwardPort& port) {
    const auto done =
        std::ranges::find(ports_, &port, [](const Draining& d) { return d.port.get(); });
    loop_.retire(std::move(done->port));
    ports_.erase(done);
  }
  [[nodiscard]] bool empty() const { return ports_.empty(); }
  /// The number of connections of leftovers.
  [[nodiscard]] std::size_t leftovers() const {
    std::size_t connections = 0;
    for (const Draining& draining : ports_) {
      if (draining.leftover) connections += draining.port->counters().active;
    }
    return connections;
  }

 private:
  struct Draining {
    std::unique_ptr<ForwardPort> port;
    std::string container;
    bool leftover = false;
  };

  EventLoop& loop_;
  std::vector<Draining> ports_;
};

/// When each forward in conflict is retried: the one that is due for the longest time comes first.
/// Each failure doubles the interval of a forward, up to kLongest. Part of the ForwardSet; forwards
/// are identified by id.
class ConflictRetries {
 public:
  static constexpr Duration kFirst = std::chrono::seconds(2);
  static constexpr Duration kLongest = std::chrono::seconds(10);

  /// Schedules the retry after a failure: after kFirst, and after twice the interval at each
  /// further failure.
  void add(const std::string& id, TimePoint now) {
    const auto [known, first] = known_.try_emplace(id);
    if (!first) {
      order_.erase({known->second.at, id});
      known->second.interval = std::min(2 * known->second.interval, kLongest);
    }
    schedule(*known, now + known->second.interval);
  }
  /// Schedules the retry after an unfinished attempt: at once, behind the others that are due.
  void resume(const std::string& id, TimePoint now) {
    const auto [known, first] = known_.try_emplace(id);
    if (!first) order_.erase({known->second.at, id});
    schedule(*known, now);
  }
  /// Makes all retries due now. Intervals stay.
  void expedite(TimePoint now) {
    order_.clear();
    for (Known::value_type& known : known_) schedule(known, now);
  }
  void remove(std::string_view id) {
    const auto known = known_.find(id);
    if (known == known_.end()) return;
    order_.erase({known->second.at, known->first});
    known_.erase(known);
  }
  [[nodiscard]] bool contains(std::string_view id) const { return known_.contains(id); }
  /// The forward that is due for the longest time; nothing if none is due.
  [[nodiscard]] std::optional<std::string> due(TimePoint now) const {
    if (order_.empty() || order_.begin()->first > now) return std::nullopt;
    return order_.begin()->second;
  }
  /// When the next retry is due.
  [[nodiscard]] std::optional<TimePoint> next() const {
    return order_.empty() ? std::nullopt : std::optional(order_.begin()->first);
  }

 private:
  struct Retry {
    TimePoint at{};
    Duration interval = kFirst;
  };
  using Known = std::map<std::string, Retry, std::less<>>;

  void schedule(Known::value_type& known, TimePoint at) {
    known.second.at = at;
    order_.emplace(at, known.first);
  }

  Known known_;
  std::set<std::pair<TimePoint, std::string>> order_;
};

/// The ids of forwards, never reused. A forward with the key of one of the daemon's last run gets
/// the id of that one. Part of the ForwardSet.
class ForwardIds {
 public:
  /// Reads `forward_ids` and `instance` of the state. Must precede any use of an id.
  void restore(const State& state);
  /// The forwards of the last run with ids that are not in use again.
  [[nodiscard]] auto former() const { return std::views::values(former_); }
  /// Drops the ids of the last run that are not in use again: their forwards are gone.
  void forget_former() {
    former_.clear();
    by_key_.clear();
  }
  /// A new id.
  [[nodiscard]] std::string next(Direction direction);
  /// The id for a key: the one from the last run, once, else next(). A requested forward of the
  /// last run is found under its away_key() as well.
  [[nodiscard]] std::string id_for(const ForwardKey& key);
  /// The number in the next id.
  [[nodiscard]] std::uint64_t next_number() const { return next_; }

 private:
  std::map<std::string, KnownForward> former_;  ///< by id
  std::map<ForwardKey, std::string> by_key_;    ///< ids of the last run, those in use included
  std::uint64_t next_ = 1;
};

/// A forward, and whether PortAdded was emitted for it, so that PortRemoved must follow.
struct ListedForward {
  std::unique_ptr<Forward> forward;
  bool announced = false;
};

/// The forwards by key and by id, both of which are unique.
class ForwardIndex {
 public:
  /// Null if it is not there.
  [[nodiscard]] ListedForward* find(const ForwardKey& key);
  [[nodiscard]] ListedForward* find_id(std::string_view id);
  [[nodiscard]] const Forward* find_id(std::string_view id) const;
  [[nodiscard]] bool contains(const ForwardKey& key) const { return forwards_.contains(key); }
  /// The forwards of a container, ordered by direction and target. A pointer is valid until its
  /// forward is removed; it survives rekey().
  [[nodiscard]] std::vector<ListedForward*> of(const std::string& container_id);
  [[nodiscard]] auto all() const { return std::views::values(forwards_); }
  [[nodiscard]] std::vector<ForwardInfo> infos() const;
  [[nodiscard]] std::size_t size() const { return forwards_.size(); }
  /// Changes the key of a forward. There must be one with the key `from` and none with `to`.
  ListedForward& rekey(const ForwardKey& from, ForwardKey to);

 protected:
  using Map = std::map<ForwardKey, ListedForward>;

  /// There must be none with its key and none with its id.
  ListedForward& add(std::unique_ptr<Forward> forward);
  /// Removes a forward, which must exist. @return it with its key; references to it stay valid
  [[nodiscard]] Map::node_type extract(const ForwardKey& key);

 private:
  Map forwards_;
  std::unordered_map<std::string_view, Forward*> ids_;  ///< all of forwards_, by id
};

class ForwardSet final : public ForwardIndex, public ForwardPortObserver {
 public:
  struct Parts {
    EventLoop& loop;
    RelayServices relay;
    const PortHolder& holders;
    HostPathParts host_paths;
    Notifier& notifier;
    std::function<void()> on_ports_changed;  ///< host_ports() or host_paths() has something to save
    /// Polls the listeners of a container at once. @return false if there is no such container
    std::function<bool(const std::string& container_id)> poll_container;
    /// The number of detected forwards of a container changed by 1 or -1.
    std::function<void(const std::string& container_id, int change)> on_automatic;
    /// A retry was added.
    std::function<void()> on_conflict;
  };
  ForwardSet(Parts parts, const Settings& settings);

  [[nodiscard]] HostPorts& host_ports() { return host_ports_; }
  [[nodiscard]] const HostPorts& host_ports() const { return host_ports_; }
  [[nodiscard]] HostPaths& host_paths() { return host_paths_; }
  [[nodiscard]] const HostPaths& host_paths() const { return host_paths_; }
  [[nodiscard]] ConflictRetries& retries() { return retries_; }

  [[nodiscard]] ForwardIds& ids() { return ids_; }
  [[nodiscard]] const ForwardIds& ids() const { return ids_; }
  /// The ports that no longer accept.
  [[nodiscard]] const DrainingPorts& draining() const { return draining_; }
  /// Sets `forward_ids` and `instance.next_forward`.
  void save(State& state) const;

  // ---- changing
  /// Creates a forward with a key that must be free. bind() and notify_created() must follow.
  ListedForward& create(const ForwardKey& key, const Wanted& wanted);
  /// Binds a host port, if the forward listens on one. @return false if that failed: it is in
  /// conflict, with a reason, and retried
  bool bind(Forward& forward);
  /// Reverts create() for a requested forward in conflict, of which nothing was notified.
  void discard(ListedForward& listed);
  /// Applies listeners and treatment, and notifies if anything shown changed.
  void update(ListedForward& listed, ContainerAccess& access, const Wanted& wanted);
  bool apply_treatment(Forward& forward, const Treatment& treatment);
  /// See HostPlaces::misplaced(). False for a forward that does not listen on the host.
  [[nodiscard]] static bool misplaced(const Forward& forward, const Treatment& treatment);
  /// Makes a detected forward one of `origin`, which must not be Auto.
  void take_over(ListedForward& listed, Origin origin);
  /// Makes a forward wait for the next container of that name. @param treatment without a container
  /// @param reason of PortRemoved, if the forward no longer listens
  void leave_container(ListedForward& listed, const std::string& container_name,
                       const Treatment& treatment, std::string_view reason);
  /// Ends a forward. Its connections may go on for `drain` of the settings.
  void withdraw(ListedForward& listed, std::string_view reason);
  /// Ends a forward whose listener closed by itself or is reached by another forward. Its clients
  /// are served without limit, as they would be without the daemon.
  void end_lingering(ListedForward& listed);
  void withdraw_all(std::string_view reason);

  // ---- notifying
  /// @return whether the forward listens, so that notify_added() must follow
  bool notify_created(const ListedForward& listed);
  /// Emits PortAdded for forwards that listen and are not announced, as one batch.
  void notify_added(std::span<ListedForward* const> listening);
  void notify_changed(const ListedForward& listed);

  // ---- what forwards report
  void on_linger_over(HostForward& forward);
  /// The place that HostPlaces::bind() requested was made, or could not be.
  void on_place_ready(const std::string& forward_id);
  /// What Forward::update() began is complete: the forward listens, or is in conflict with a
  /// reason.
  /// @param changed whether anything shown changed
  void on_update_complete(Forward& forward, bool changed);

  /// Limits the leftovers of a container that ends to `drain` of the settings.
  void limit_leftovers(const std::string& container_id) {
    draining_.limit(container_id, settings_.host.drain);
  }

 private:
  [[nodiscard]] std::unique_ptr<Forward> make(const ForwardKey& key, const Wanted& wanted);
  [[nodiscard]] HostTarget host_target(const ForwardSpec& spec);
  void remove(ListedForward& listed, std::string_view reason, Duration drain);
  void notify_removed(ListedForward& listed, const ForwardInfo& info, std::string_view reason);

  void on_target_refused(ForwardPort& port, const Error& error) override;
  void on_target_reached(ForwardPort& port) override;
  void on_place_lost(ForwardPort& port, const BindFailure& failure) override;
  void on_drained(ForwardPort& port) override { draining_.remove(port); }

  Parts parts_;
  const Settings& settings_;
  HostSockets host_sockets_;
  NetnsDialer host_dialer_;  ///< to ports of the host
  /// To Unix sockets of the host: without and with descriptors.
  std::array<std::optional<HostSocketDialer>, 2> host_socket_dialers_;
  HostPorts host_ports_;
  HostPaths host_paths_;
  ForwardIds ids_;
  ConflictRetries retries_;
  DrainingPorts draining_;
};

}  // namespace portfwd
