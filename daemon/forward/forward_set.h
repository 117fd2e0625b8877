// The forwards that exist, by what they tie and by id, and what brings them about: create, give a
// host port, announce, withdraw, drain. Owned by the ForwardTable, which decides which forwards
// there are; everything that observers hear of forwards is notified here.
//
// A forward that is listening is announced (PortAdded) and unannounced (PortRemoved) once each. One
// without a port is in conflict and among the retries. An id is never used twice; a forward that
// ties what one tied when the daemon ended has the id of that one.
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
#include "forward/host_ports.h"
#include "forward/plan.h"
#include "relay/forward_port.h"
#include "relay/netns_dialer.h"
#include "state/state.h"

namespace portfwd {

/// Ports that no longer accept and whose live connections may finish. Part of the ForwardSet, which
/// removes a port when it has drained. Those whose listener closed by itself are leftovers: they
/// have no limit while their container lives.
class DrainingPorts {
 public:
  static constexpr Duration kNoLimit = Duration::max();

  explicit DrainingPorts(EventLoop& loop) : loop_(loop) {}

  /// @param port whose drain() has begun
  void add(std::unique_ptr<ForwardPort> port) { ports_.push_back({std::move(port), {}, false}); }
  /// One whose drain() has begun with kNoLimit. @param container the id, for limit()
  void add_leftover(std::unique_ptr<ForwardPort> port, std::string container) {
    ports_.push_back({std::move(port), std::move(container), true});
  }
  /// The leftovers of a container get a limit. @param container its id; nothing: of all containers
  void limit(const std::optional<std::string>& container, Duration limit) {
    for (Draining& draining : ports_) {
      if (!draining.leftover || (container && draining.container != *container)) continue;
      draining.leftover = false;
      draining.port->drain(limit);
    }
  }
  /// From within its on_drained().
  void remove(const ForwardPort& port) {
    const auto done =
        std::ranges::find(ports_, &port, [](const Draining& d) { return d.port.get(); });
    loop_.retire(std::move(done->port));
    ports_.erase(done);
  }
  [[nodiscard]] bool empty() const { return ports_.empty(); }
  /// Connections of leftovers.
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

/// When each forward without a host port is retried: the one that waited longest comes first, and
/// each failure doubles its interval. Part of the ForwardSet; forwards are known by their ids.
class ConflictRetries {
 public:
  static constexpr Duration kFirst = std::chrono::seconds(2);
  static constexpr Duration kLongest = std::chrono::seconds(10);

  /// After a failure: the next retry is kFirst away, after each further one twice as far.
  void add(const std::string& id, TimePoint now) {
    const auto [known, first] = known_.try_emplace(id);
    if (!first) {
      order_.erase({known->second.at, id});
      known->second.interval = std::min(2 * known->second.interval, kLongest);
    }
    schedule(*known, now + known->second.interval);
  }
  /// After an attempt that did not come to its end: the retry is due at once, behind the others.
  void resume(const std::string& id, TimePoint now) {
    const auto [known, first] = known_.try_emplace(id);
    if (!first) order_.erase({known->second.at, id});
    schedule(*known, now);
  }
  /// All are due now.
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
  /// The forward whose retry is due for the longest time.
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

/// The ids of forwards, never used twice. A forward that ties what one of the daemon's last life
/// tied has that one's id. Part of the ForwardSet.
class ForwardIds {
 public:
  /// @param state its `forward_ids` and `instance` are used; to be called before any id is made
  void restore(const State& state);
  /// Those of the last life that were not taken again.
  [[nodiscard]] auto former() const { return std::views::values(former_); }
  /// What has not come back by now is gone: its id is not given out again.
  void forget_former() {
    former_.clear();
    by_key_.clear();
  }
  /// One that was not used before.
  [[nodiscard]] std::string next(Direction direction);
  /// For this tie: the id that it had in the last life, else next(). What was asked for is found
  /// under its away_key(), too.
  [[nodiscard]] std::string id_for(const ForwardKey& key);
  /// The number in the next id.
  [[nodiscard]] std::uint64_t next_number() const { return next_; }

 private:
  std::map<std::string, KnownForward> former_;  ///< by id
  std::map<ForwardKey, std::string> by_key_;    ///< also of those that were taken
  std::uint64_t next_ = 1;
};

/// A forward, and whether PortAdded was notified for it, so that PortRemoved must follow.
struct TiedForward {
  std::unique_ptr<Forward> forward;
  bool announced = false;
};

/// The forwards, by what they tie and by id. Each id is that of one forward.
class ForwardIndex {
 public:
  /// Null if it is not there.
  [[nodiscard]] TiedForward* find(const ForwardKey& key);
  [[nodiscard]] TiedForward* find_id(std::string_view id);
  [[nodiscard]] const Forward* find_id(std::string_view id) const;
  [[nodiscard]] bool contains(const ForwardKey& key) const { return forwards_.contains(key); }
  /// Those of a container, ordered by direction and target; forwards may come and go meanwhile, but
  /// for those in the list.
  [[nodiscard]] std::vector<TiedForward*> of(const std::string& container_id);
  [[nodiscard]] auto all() const { return std::views::values(forwards_); }
  [[nodiscard]] std::vector<ForwardInfo> infos() const;
  [[nodiscard]] std::size_t size() const { return forwards_.size(); }
  /// Precondition: there is one with the key `from` and none with `to`.
  TiedForward& rekey(const ForwardKey& from, ForwardKey to);

 protected:
  using Map = std::map<ForwardKey, TiedForward>;

  /// Precondition: there is none with its key.
  TiedForward& add(std::unique_ptr<Forward> forward);
  /// Precondition: it is there. @return it with its key; references to it stay valid
  [[nodiscard]] Map::node_type extract(const ForwardKey& key);

 private:
  Map forwards_;
  std::unordered_map<std::string_view, Forward*> ids_;  ///< of them all
};

class ForwardSet final : public ForwardIndex, public ForwardPortObserver {
 public:
  struct Parts {
    EventLoop& loop;
    RelayServices relay;
    const PortHolder& holders;
    Notifier& notifier;
    std::function<void()> on_ports_changed;  ///< what host_ports() would save
    /// Looks at the listeners of a container now. @return false if there is no such container
    std::function<bool(const std::string& container_id)> poll_container;
    /// A detected forward of a container came (1) or went (-1).
    std::function<void(const std::string& container_id, int change)> on_automatic;
    /// There is a conflict to be retried.
    std::function<void()> on_conflict;
  };
  ForwardSet(Parts parts, const Settings& settings);

  [[nodiscard]] HostPorts& host_ports() { return host_ports_; }
  [[nodiscard]] const HostPorts& host_ports() const { return host_ports_; }
  [[nodiscard]] ConflictRetries& retries() { return retries_; }

  [[nodiscard]] ForwardIds& ids() { return ids_; }
  [[nodiscard]] const ForwardIds& ids() const { return ids_; }
  /// Those that no longer accept; see DrainingPorts.
  [[nodiscard]] const DrainingPorts& draining() const { return draining_; }
  /// Sets `forward_ids`, and the number in the next id.
  void save(State& state) const;

  // ---- changing
  /// Precondition: there is none with this key. bind() and notify_created() follow.
  TiedForward& create(const ForwardKey& key, const Wanted& wanted);
  /// Gives it a host port if it listens on one. @return whether it has what it needs; if not it is
  /// in conflict, with a reason, and retried
  bool bind(Forward& forward);
  /// Takes back create(), before any notification of it.
  void discard(TiedForward& tied);
  /// Its listeners or its treatment may be others.
  void update(TiedForward& tied, ContainerAccess& access, const Wanted& wanted);
  bool treat(Forward& forward, const Treatment& treatment);
  void take_over(TiedForward& tied, Origin origin);
  /// Its container goes and it waits for the next. @param treatment without the container
  void leave_container(TiedForward& tied, const std::string& container_name,
                       const Treatment& treatment, std::string_view reason);
  /// Live connections of it may finish, for `drain` of the settings.
  void withdraw(TiedForward& tied, std::string_view reason);
  void withdraw_all(std::string_view reason);

  // ---- notifying
  /// It was created. @return whether it listens, so that notify_added() must follow
  bool notify_created(const TiedForward& tied);
  void notify_added(std::span<TiedForward* const> listening);
  void notify_changed(const TiedForward& tied);

  // ---- what forwards report
  void on_linger_over(HostForward& forward);
  /// What Forward::update() began has come to an end: it listens now, or cannot and says why.
  /// @param changed whether people see a difference
  void on_listening_settled(Forward& forward, bool changed);

  /// Connections of listeners of this container that closed by themselves end with it.
  void limit_leftovers(const std::string& container_id) {
    draining_.limit(container_id, settings_.host.drain);
  }

 private:
  [[nodiscard]] std::unique_ptr<Forward> make(const ForwardKey& key, const ForwardRequest* request);
  void remove(TiedForward& tied, std::string_view reason, Duration drain);
  void notify_removed(TiedForward& tied, const ForwardInfo& info, std::string_view reason);

  void on_target_refused(ForwardPort& port, const Error& error) override;
  void on_target_reached(ForwardPort& port) override;
  void on_drained(ForwardPort& port) override { draining_.remove(port); }

  Parts parts_;
  const Settings& settings_;
  HostSockets host_sockets_;
  NetnsDialer host_dialer_;  ///< to services of the host
  HostPorts host_ports_;
  ForwardIds ids_;
  ConflictRetries retries_;
  DrainingPorts draining_;
};

}  // namespace portfwd
