// Which forwards there should be, and which there are. For one container at a time the table
// derives the *desired* forwards from the listeners seen, the settings and the requests,
// compares them with the actual ones and does the difference: a new listener, a reload, a
// container's return and a removed forward are all the same step. It owns every forward; it knows
// neither the bus nor how a container is reached.
//
// Whatever happens only marks containers: `changed_` those that are new or whose facts changed,
// `dirty_` those whose forwards are to be reconciled. reconcile_dirty() does the work, once a turn
// of the loop, so nothing edits a collection that a caller walks and the order of events does not
// matter. A request that needs its answer at once has the container of the request reconciled
// explicitly; the end of a container withdraws its forwards at once, since their dialers end. What
// a turn does is bounded in time and in ports that are tried (TurnBudget), the rest is for the
// next.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "access/container_access.h"
#include "base/refusal.h"
#include "config/settings.h"
#include "event/event_loop.h"
#include "forward/conflict_retries.h"
#include "forward/container_addresses.h"
#include "forward/container_wishes.h"
#include "forward/dirty_containers.h"
#include "forward/draining_ports.h"
#include "forward/explain.h"
#include "forward/fallback_cursors.h"
#include "forward/forward_groups.h"
#include "forward/forward_request.h"
#include "forward/held_ports.h"
#include "forward/host_forward.h"
#include "forward/listener_ages.h"
#include "forward/policy.h"
#include "forward/sticky_ports.h"
#include "relay/host_sockets.h"
#include "relay/netns_dialer.h"

namespace portfwd {

class TableObserver {
 public:
  virtual void on_forward_created(const ForwardInfo& forward) = 0;
  virtual void on_forward_changed(const ForwardInfo& forward) = 0;
  virtual void on_forward_destroyed(const ForwardInfo& forward) = 0;
  /// It has a host port now. @param index, count place among those that one look showed new
  virtual void on_port_added(const ForwardInfo& forward, std::uint32_t index,
                             std::uint32_t count) = 0;
  /// Follows each on_port_added. @param reason as PortRemoved has it: listener-closed, ...
  virtual void on_port_removed(const ForwardInfo& forward, std::string_view reason) = 0;
  /// A container, with those that count together with it (ForwardGroups), has more ports than
  /// `max_forwards`; told once until there are fewer.
  virtual void on_limit(const Container& container, unsigned limit) = 0;
  /// state() is not what it was.
  virtual void on_state_changed() = 0;

 protected:
  ~TableObserver() = default;
};

/// Says who holds a host port that could not be bound; "" when it can't be known.
class PortHolder {
 public:
  [[nodiscard]] virtual std::string holder_of(Protocol protocol,
                                              const Endpoint& endpoint) const = 0;

 protected:
  ~PortHolder() = default;
};

class ForwardTable final : public AccessObserver, private ForwardObserver {
 public:
  struct Parts {
    EventLoop& loop;
    RelayServices relay;
    const PortHolder& holders;
    TableObserver& observer;
  };
  /// @param state what state() gave in the life before
  ForwardTable(const Parts& parts, const Settings& settings, const State& state);

  /// What the next life of the daemon is to know.
  [[nodiscard]] State state() const;

  /// Other settings from now on: what they no longer allow is withdrawn, what they newly allow
  /// appears, what stays keeps its connections.
  void apply(const Settings& settings);
  /// Reconciles what is marked. The loop calls it in the turn after something was marked.
  void reconcile_dirty();

  /// Makes the forwards that the settings declare; apply() does so too.
  void declare();
  /// @param reach where the forward leads; null while the container is away (allow_missing)
  /// @return the forward's id
  Answer<std::string> add(ContainerAccess* reach, ForwardRequest request);
  /// Ends it; an auto one stays away until its listener has gone and come back.
  Answer<void> remove(std::string_view forward_id);
  void end_lifeline(std::string_view bus_name);
  /// Whose clients can be identified has changed, and with it the reasons of forwards.
  void tell_identification_changed();
  /// Ends all of them for good, with the reason `daemon-stopped`; no other is made from now on.
  void stop();
  /// Whether live connections of withdrawn forwards are still draining.
  [[nodiscard]] bool draining() const { return !draining_.empty(); }
  /// Whether containers are still to be reconciled.
  [[nodiscard]] bool busy() const { return marked(); }
  /// Live connections whose listener and host port are gone.
  [[nodiscard]] std::size_t leftover_connections() const { return draining_.leftovers(); }

  [[nodiscard]] std::vector<ForwardInfo> infos() const;
  [[nodiscard]] std::optional<ForwardInfo> find(std::string_view id) const;
  [[nodiscard]] std::size_t size() const { return forwards_.size(); }
  /// How a forward came to be asked for, such as "declared at FILE:LINE"; "" for a detected one.
  [[nodiscard]] std::string asked_by(std::string_view forward_id) const;
  /// The container's listeners on a port, with what is known of each.
  [[nodiscard]] std::vector<SeenListener> seen(const Container& container,
                                               const Target& target) const;
  /// The host addresses that a forward could not have when it looked for one, with who holds them
  /// now; the first few.
  [[nodiscard]] std::vector<std::string> tried(std::string_view forward_id) const;
  /// What decides on listeners. Its parts are borrowed.
  [[nodiscard]] PolicyContext policy() const { return {settings_, ephemeral_, wishes_}; }
  /// Which UDP sockets are to be looked for.
  [[nodiscard]] UdpInterest udp_interest() const;
  /// Whether a person ended this container's forward of the port and its listener still lives.
  [[nodiscard]] bool suppressed(const Container& container, const Target& target) const;

  void on_access_added(ContainerAccess& reach) override;
  void on_access_changed(ContainerAccess& reach) override;
  void on_listeners(ContainerAccess& reach) override;
  void on_access_removed(ContainerAccess& reach, RemovalReason reason) override;

 private:
  struct Entry {
    ContainerAccess* reach = nullptr;
    std::vector<std::string> names;  ///< its lasting_names() when they were last looked at
    std::string project;             ///< likewise the compose project that it is part of
    std::set<Target> suppressed;
    ListenerAges ages;
    TimePoint settled = TimePoint::max();  ///< when the next listener has lived long enough
    std::string group;                     ///< see group_of()
  };
  /// What is left of a turn.
  struct TurnBudget {
    unsigned binds = kBindsPerTurn;      ///< host ports that may be tried
    TimePoint until = TimePoint::max();  ///< for another container to be begun
  };
  /// What a forward of one container should have.
  struct Wanted {
    std::vector<Listener> listeners;
    const ForwardRequest* request = nullptr;
    Treatment treatment;
  };
  struct Tied {
    std::unique_ptr<Forward> forward;
    bool announced = false;  ///< PortAdded was told, so PortRemoved must follow
  };
  /// Of one container: its forwards by direction and target.
  using Plan = std::map<std::pair<Direction, Target>, Wanted>;
  using Forwards = std::map<ForwardKey, Tied>;

  static constexpr unsigned kBindsPerTurn = 100;
  static constexpr Duration kTimePerTurn = std::chrono::milliseconds(2);
  static constexpr Duration kLongestRest = std::chrono::milliseconds(20);

  void begin_turn();
  [[nodiscard]] bool turn_over() const;
  [[nodiscard]] bool marked() const;
  void mark(const Entry& entry);
  void mark_changed(const Entry& entry);
  void mark_all();
  void mark_projects(const std::set<std::string>& projects);
  void schedule();
  void follow_changes();
  void follow_facts(Entry& entry);
  void join_group(Entry& entry);
  void reconcile(Entry& entry);
  [[nodiscard]] Plan plan_of(Entry& entry);
  [[nodiscard]] Plan requested(const Entry& entry) const;
  [[nodiscard]] Wanted detected(Entry& entry, std::span<const Listener* const> group);
  [[nodiscard]] Treatment treatment_of(const ForwardRequest& request, const Container* container,
                                       std::span<const Listener> listeners) const;
  void add_lingering(const Entry& entry, Plan& plan);
  void mark_settled();
  void note_limit(const Entry& entry, bool over);
  void update_existing(Entry& entry, const Plan& plan);
  [[nodiscard]] static bool lost_port(const Tied& tied);
  void withdraw_to_replace(Forwards::iterator tied);
  void update(Tied& tied, Entry& entry, const Wanted& wanted);
  void create_missing(Entry& entry, const Plan& plan);
  Forward& create(const ForwardKey& key, const Wanted& wanted);
  /// Gives it a host port if it listens on one. @return whether it has what it needs; if not, it is
  /// in `conflict` with a reason
  bool bind(Forward& forward);
  [[nodiscard]] std::expected<void, BindFailure> try_port(HostForward& forward,
                                                          const std::vector<IpAddress>& addresses,
                                                          Port port);
  [[nodiscard]] bool remembers_ports() const;
  void remember_port(const Forward& forward);
  [[nodiscard]] std::vector<std::string> names_of(const Forward& forward) const;
  [[nodiscard]] bool remembered_elsewhere(const Forward& forward) const;
  void follow_names(Entry& entry);
  [[nodiscard]] std::string taken_sentence(const BindFailure& failure) const;
  void retry_conflicts();
  void retry(const std::string& id);
  void retry_later(const Forward& forward);
  static bool serves(const Forward& forward, const ForwardRequest& request);
  std::string take_over(Tied& tied, ForwardRequest request);
  Answer<std::string> insert(ContainerAccess* reach, ForwardRequest request);
  Answer<std::string> make(ContainerAccess* reach, const ForwardKey& key, ForwardRequest request);
  Forward& create_for(const ForwardRequest& request, const ForwardKey& key,
                      const Container* container);
  void announce_waiting(const ForwardKey& key);
  void end(Forwards::iterator tied, std::string_view reason);
  [[nodiscard]] std::vector<DeclaredForward> declared() const;
  void make_declared();
  void declare(const DeclaredForward& declared);
  void forget_wishes();
  void treat_waiting();
  [[nodiscard]] bool at_home(const ForwardRequest& request);
  [[nodiscard]] ContainerAccess* named(const std::string& container) const;
  void inherit(const Container& container);
  void note_published(const Container& container);
  void adopt(Entry& entry);
  void release(ForwardRequest& request, std::string_view reason);
  void tell_removed(Tied& tied, const ForwardInfo& info, std::string_view reason);
  [[nodiscard]] std::string next_id(Direction direction);
  [[nodiscard]] std::unique_ptr<Forward> make_forward(const ForwardKey& key,
                                                      const ForwardRequest* request);
  void release_all(const std::string& container_id, RemovalReason reason);
  void release_misnamed(const Container& container);
  void rekey(const ForwardKey& from, ForwardKey to);
  void withdraw(Forwards::iterator tied, std::string_view reason);
  void remove(Forwards::iterator tied, std::string_view reason, Duration drain);
  void count_automatic(const std::string& container_id, int change);
  bool tell_created(const Tied& tied);
  void tell_added(const std::vector<Tied*>& bound);
  void told_change(const Tied& tied);
  [[nodiscard]] std::vector<IpAddress> host_addresses(const std::string& container,
                                                      const std::optional<Bind>& said);
  [[nodiscard]] bool misplaced(Forward& forward, const Treatment& now);
  bool treat(Forward& forward, const Treatment& treatment);
  [[nodiscard]] ForwardPortSettings port_settings(const Treatment& treatment) const;
  [[nodiscard]] Forwards::iterator by_id(std::string_view id);
  [[nodiscard]] const Forward* known(std::string_view id) const;

  void on_linger_over(HostForward& forward) override;
  void on_listening_settled(Forward& forward, bool changed) override;
  void on_target_refused(ForwardPort& port, const Error& error) override;
  void on_target_reached(ForwardPort& port) override;
  void on_drained(ForwardPort& port) override { draining_.remove(port); }

  Parts parts_;
  HostSockets host_sockets_;
  NetnsDialer host_dialer_;  ///< to services of the host
  Settings settings_;
  PortRange ephemeral_;
  StickyPorts sticky_;
  ContainerAddresses addresses_;
  ContainerWishes wishes_;
  /// What the settings declare and an engine publishes, by the container's name, for as long as the
  /// name is not seen without.
  std::set<std::pair<std::string, Target>> published_;
  std::map<std::string, Entry> entries_;  ///< by container id
  Forwards forwards_;
  std::unordered_map<std::string_view, const Forward*> ids_;  ///< of them all
  std::list<ForwardRequest> requests_;
  DrainingPorts draining_;
  std::set<std::string> changed_;  ///< ids of containers
  DirtyContainers dirty_;
  bool declare_due_ = false;  ///< what is declared changed
  ConflictRetries retries_;
  HeldPorts held_;
  FallbackCursors cursors_;
  ForwardGroups groups_;
  TurnBudget budget_;
  TimePoint rest_until_{};  ///< no work before
  Timer work_;              ///< calls reconcile_dirty()
  Timer settle_over_;
  Timer forget_wishes_;
  std::uint64_t next_id_ = 1;
  bool stopped_ = false;
};

}  // namespace portfwd
