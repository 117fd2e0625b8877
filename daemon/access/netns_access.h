// Access to one network namespace of this kernel, for all containers in it. It owns the watch of
// the namespace's listeners and the names of their programs; a derived class decides what the watch
// reads and how a listener is dialled. Owned by the AccessSet. Its open files and sockets pin the
// namespace, so it is destroyed with its last member.
//
// Each listener belongs to the member whose cgroup, or a cgroup below it, made its socket; if there
// is none, to the first member. The kernel does not show the cgroup of a Unix socket: that of the
// program that has it open counts instead. A server may listen before discovery has found its
// container. So in a namespace of an engine's container, a listener made by an unknown cgroup is
// withheld for at most kOwnerGracePeriod, once for each cgroup: its container may be found
// meanwhile.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "access/container_access.h"
#include "access/container_sockets.h"
#include "access/port_watch.h"
#include "access/process_names.h"
#include "broker/client/broker_client.h"
#include "broker/client/socket_pool.h"
#include "relay/netns_dialer.h"

namespace portfwd {

class NetnsMember;

class NetnsAccess {
 public:
  struct Parts {
    PortWatch::Shared watching;
    ProcessNames& names;
    AccessObserver& observer;  ///< only its on_listeners is called
    PathBrokers& path_brokers;
  };
  NetnsAccess(const NetnsAccess&) = delete;
  NetnsAccess& operator=(const NetnsAccess&) = delete;
  virtual ~NetnsAccess();

  /// Adds a member. It has no listeners before the next distribute_listeners().
  /// @param container borrowed by the member
  [[nodiscard]] std::unique_ptr<NetnsMember> add(const Container& container);
  [[nodiscard]] bool has_members() const { return !members_.empty(); }

  [[nodiscard]] virtual AccessKind kind() const = 0;
  [[nodiscard]] virtual Dialer& dialer(Protocol protocol) = 0;
  /// See ContainerAccess.
  [[nodiscard]] virtual Answer<std::unique_ptr<InsidePort>> listen_inside(Port port,
                                                                          OnInsidePort on_port) = 0;
  void expedite() { watch_.expedite(); }
  void poll_now() { watch_.poll_now(); }
  /// Notifies that a better source than the present one may exist; see PortWatch.
  void renew_source() { watch_.renew_source(); }
  /// Whether the listeners that existed at the start have been distributed, or cannot be known.
  [[nodiscard]] bool all_reported() const;

  /// Must be called when the members, or the cgroups of members, have changed.
  void distribute_listeners();

 protected:
  /// @param pid, netns see PortWatch
  NetnsAccess(const Parts& parts, pid_t pid, std::uint64_t netns);

  /// Gives the watch a source; see PortWatch::Callbacks.
  virtual void on_source_needed() = 0;
  /// Sets `unreachable` of listeners that cannot be dialled, unless it is set already, and makes
  /// sockets ready for the others.
  virtual void prepare_dialing(std::vector<Listener>& listeners) = 0;
  /// Sets `unreachable` of all Unix sockets with a path, unless it is set already.
  static void mark_paths(std::vector<Listener>& listeners, std::string_view why);
  /// Must be called when the set of listeners that can be dialled may have changed.
  void update_listeners();
  [[nodiscard]] PortWatch& watch() { return watch_; }
  [[nodiscard]] const DiagModules& modules() const { return modules_; }

 private:
  friend class NetnsMember;
  using Makers = std::map<std::uint64_t, const NetnsMember*>;  ///< by inode of the cgroup

  void remove(const NetnsMember& member);
  [[nodiscard]] std::optional<std::size_t> owner_of(const Listener& listener, const Makers& known);
  [[nodiscard]] const NetnsMember* maker_of(std::uint64_t cgroup, const Makers& known);
  void end_grace_period();

  EventLoop& loop_;
  AccessObserver& observer_;
  PathBrokers& path_brokers_;
  const DiagModules& modules_;
  std::vector<NetnsMember*> members_;  ///< in the order in which they were added
  Makers makers_;                      ///< of the listeners that were distributed last
  std::set<std::uint64_t> awaited_;    ///< cgroups whose container may still be found
  std::set<std::uint64_t> unclaimed_;  ///< cgroups whose container was not found in time
  Timer grace_period_;
  ListenerNames names_;
  std::vector<Listener> listeners_;  ///< of the namespace; prepare_dialing() has run
  PortWatch watch_;
};

/// Access to one of the containers that share a NetnsAccess, which outlives it.
class NetnsMember final : public ContainerAccess {
 public:
  NetnsMember(const Container& container, NetnsAccess& netns)
      : container_(container),
        netns_(netns),
        sockets_(netns.loop_, netns.path_brokers_, container),
        reported_kind_(netns.kind()) {}
  NetnsMember(const NetnsMember&) = delete;
  NetnsMember& operator=(const NetnsMember&) = delete;
  ~NetnsMember() override { netns_.remove(*this); }

  [[nodiscard]] const Container& container() const override { return container_; }
  [[nodiscard]] ContainerState state() const override {
    return container_.on_host ? ContainerState::Ignored : ContainerState::Watched;
  }
  [[nodiscard]] AccessKind kind() const override { return netns_.kind(); }
  [[nodiscard]] const std::string& reason() const override { return reason_; }
  [[nodiscard]] const std::vector<Listener>& listeners() const override { return listeners_; }
  [[nodiscard]] bool ever_listened() const override { return ever_listened_; }
  [[nodiscard]] Dialer& dialer(const DialOptions& options) override {
    if (options.protocol == Protocol::Unix) return sockets_.dialer(options);
    return netns_.dialer(options.protocol);
  }
  void expedite() override { netns_.expedite(); }
  void poll_now() override { netns_.poll_now(); }
  [[nodiscard]] Answer<std::unique_ptr<InsidePort>> listen_inside(const InsidePlace& place,
                                                                  OnInsidePort on_port) override {
    const PortTarget* const port = place.target.port();
    if (port != nullptr) return netns_.listen_inside(port->port, std::move(on_port));
    return sockets_.listen_inside(place, netns_.watch(), std::move(on_port));
  }

  /// Must be called when the container's facts have changed.
  void update_anchor() { sockets_.update_anchor(); }

  /// @param listeners ordered
  /// @return whether the listeners or the kind have changed
  [[nodiscard]] bool set_listeners(std::vector<Listener> listeners);

 private:
  const Container& container_;
  NetnsAccess& netns_;
  ContainerSockets sockets_;
  std::string reason_;
  std::vector<Listener> listeners_;
  AccessKind reported_kind_;
  bool ever_listened_ = false;
};

// Sockets that a broker makes in one network namespace, for all who use them: the watch, the
// dialers, ports of the daemon inside. A member of an access that enters the namespace. The
// launcher of the broker decides whether the broker is a child process or a helper container.
class NetnsSockets {
 public:
  /// Never called from within the request. It may destroy the NetnsSockets.
  using Done = std::move_only_function<void(Result<void>)>;

  /// @param broker must not be null
  /// @param netns the namespace; if invalid, the one that the broker is in
  /// @param watch borrowed
  NetnsSockets(RelayContext& relay, std::shared_ptr<BrokerClient> broker, UniqueFd netns,
               PortWatch& watch);

  /// Requests the two netlink sockets that the watch reads, and passes them to it. Cancels a
  /// request in progress. The watch is notified of success only: if it has requested a source,
  /// `done` must call its diag_failed() or diag_delayed() after a failure.
  void request_diag(Done done);
  /// Requests a socket and discards it, to find out whether the broker can make sockets. Cancels a
  /// request in progress.
  void request_probe(Done done);

  /// The dialer is valid as long as this object.
  [[nodiscard]] Dialer& dialer(Protocol protocol) { return pooled_dialer(protocol).dialer; }
  /// Makes sockets ready for dialling these listeners.
  void prepare(const std::vector<Listener>& listeners);
  [[nodiscard]] std::unique_ptr<InsidePort> listen_inside(Port port, OnInsidePort on_port);

 private:
  struct PooledDialer {
    PooledDialer(RelayContext& relay, std::shared_ptr<BrokerClient> broker, int netns,
                 Protocol protocol)
        : pool(relay.loop(), std::move(broker), netns, protocol), dialer(relay, pool) {}
    SocketPool pool;
    NetnsDialer dialer;
  };
  [[nodiscard]] PooledDialer& pooled_dialer(Protocol protocol);

  RelayContext& relay_;
  std::shared_ptr<BrokerClient> broker_;
  UniqueFd netns_;
  PortWatch& watch_;
  std::unique_ptr<PooledDialer> streams_;    ///< made when needed
  std::unique_ptr<PooledDialer> datagrams_;  ///< made when needed
  BrokerCall call_;
};

// Access to a network namespace through a broker: sockets made inside watch its listeners and dial
// them. The broker is started only when a socket is in use inside. Until then the watch is dormant
// and this namespace needs no broker.
class BrokerAccess final : public NetnsAccess {
 public:
  struct Entry {
    std::string name;  ///< of the container, for the log
    pid_t pid = 0;
    std::uint64_t netns = 0;
    UniqueFd netns_fd;
    std::shared_ptr<BrokerClient> broker;
  };
  BrokerAccess(const Parts& parts, RelayContext& relay, Entry entry);

  [[nodiscard]] AccessKind kind() const override { return AccessKind::Broker; }
  [[nodiscard]] Dialer& dialer(Protocol protocol) override { return sockets_.dialer(protocol); }
  [[nodiscard]] Answer<std::unique_ptr<InsidePort>> listen_inside(Port port,
                                                                  OnInsidePort on_port) override {
    return sockets_.listen_inside(port, std::move(on_port));
  }

 private:
  void on_source_needed() override;
  void prepare_dialing(std::vector<Listener>& listeners) override;
  void request_diag();
  void on_failure(const Error& error);

  std::string name_;
  bool has_files_;  ///< a process was known when it was opened, by which files can be reached
  bool failure_logged_ = false;  ///< since the last success
  NetnsSockets sockets_;
};

}  // namespace portfwd
