// Access to one network namespace of this kernel, for all containers in it. It owns the watch on
// the namespace's listeners and the names of their programs; an implementation says what the watch
// reads and how a listener is dialled. Owned by the AccessSet; its open files and sockets pin the
// namespace, so it is destroyed with its last member.
//
// Each listener belongs to the member whose cgroup, or a cgroup below it, made its socket, else to
// the first member. A server may listen before discovery has seen its container, so a listener that
// an unknown cgroup made in an engine's namespace is withheld once, for kOwnerGracePeriod: its
// container may be about to be found.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "access/container_access.h"
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
    AccessObserver& observer;  ///< gets on_listeners only
  };
  NetnsAccess(const NetnsAccess&) = delete;
  NetnsAccess& operator=(const NetnsAccess&) = delete;
  virtual ~NetnsAccess();

  /// @param container borrowed by the member. Its listeners come with the next
  /// distribute_listeners().
  [[nodiscard]] std::unique_ptr<NetnsMember> add(const Container& container);
  [[nodiscard]] bool has_members() const { return !members_.empty(); }

  [[nodiscard]] virtual AccessKind kind() const = 0;
  [[nodiscard]] virtual Dialer& dialer(Protocol protocol) = 0;
  /// See ContainerAccess.
  [[nodiscard]] virtual Answer<std::unique_ptr<InsidePort>> listen_inside(Port port,
                                                                          OnInsidePort on_port) = 0;
  void expedite() { watch_.expedite(); }
  void poll_now() { watch_.poll_now(); }
  /// The watch may have something better to read than what it has.
  void renew_source() { watch_.renew_source(); }
  /// Whether what was open at the start is distributed (or cannot be known).
  [[nodiscard]] bool settled() const;

  /// Must be called when the members, or the cgroups of members, have changed.
  void distribute_listeners();

 protected:
  /// @param pid, netns as PortWatch has them
  NetnsAccess(const Parts& parts, pid_t pid, std::uint64_t netns);

  /// Gives the watch a source; see PortWatch::Callbacks.
  virtual void on_source_needed() = 0;
  /// Marks those of the listeners that cannot be dialled, has sockets ready for the others.
  virtual void prepare_dialing(std::vector<Listener>& listeners) = 0;
  /// To be called when what can be dialled may have changed.
  void update_listeners();
  [[nodiscard]] PortWatch& watch() { return watch_; }
  [[nodiscard]] const DiagModules& modules() const { return modules_; }

 private:
  friend class NetnsMember;
  using Makers = std::map<std::uint64_t, const NetnsMember*>;  ///< by the cgroup's inode

  void remove(const NetnsMember& member);
  [[nodiscard]] std::optional<std::size_t> owner_of(const Listener& listener, const Makers& known);
  [[nodiscard]] const NetnsMember* maker_of(std::uint64_t cgroup, const Makers& known);
  void end_grace_period();

  AccessObserver& observer_;
  const DiagModules& modules_;
  std::vector<NetnsMember*> members_;  ///< in the order of their coming
  Makers makers_;                      ///< of the listeners distributed last
  std::set<std::uint64_t> awaited_;    ///< cgroups whose container may yet be found
  std::set<std::uint64_t> unclaimed_;  ///< cgroups whose container was not found in time
  Timer grace_period_;
  ListenerNames names_;
  std::vector<Listener> listeners_;  ///< of the namespace, prepared for dialling
  PortWatch watch_;
};

/// One container's part of a NetnsAccess, which outlives it.
class NetnsMember final : public ContainerAccess {
 public:
  NetnsMember(const Container& container, NetnsAccess& netns)
      : container_(container), netns_(netns), reported_kind_(netns.kind()) {}
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
  [[nodiscard]] Dialer& dialer(Protocol protocol) override { return netns_.dialer(protocol); }
  void expedite() override { netns_.expedite(); }
  void poll_now() override { netns_.poll_now(); }
  [[nodiscard]] Answer<std::unique_ptr<InsidePort>> listen_inside(Port port,
                                                                  OnInsidePort on_port) override {
    return netns_.listen_inside(port, std::move(on_port));
  }

  /// @param listeners ordered @return whether these, or the kind, are others than before
  [[nodiscard]] bool set_listeners(std::vector<Listener> listeners);

 private:
  const Container& container_;
  NetnsAccess& netns_;
  std::string reason_;
  std::vector<Listener> listeners_;
  AccessKind reported_kind_;
  bool ever_listened_ = false;
};

// Sockets that a broker makes in one network namespace, for whatever needs them: the watch, the
// dialers, ports of the daemon's own inside. A member of the access that may enter the namespace;
// the broker's launcher decides whether that is a program of this user or a helper container.
class NetnsSockets {
 public:
  /// Never called from within the request. It may destroy the NetnsSockets.
  using Done = std::move_only_function<void(Result<void>)>;

  /// @param broker must not be null
  /// @param netns the namespace; invalid: the one that the broker is in
  /// @param watch borrowed
  NetnsSockets(RelayContext& relay, std::shared_ptr<BrokerClient> broker, UniqueFd netns,
               PortWatch& watch);

  /// Requests the two netlink sockets that the watch reads, and passes them on. The watch is
  /// notified of success alone: after a failure `done` must call its diag_failed() or
  /// diag_delayed(). A request under way is cancelled.
  void request_diag(Done done);
  /// Asks for a socket and discards it: finds out whether sockets can be made.
  void request_probe(Done done);

  /// For as long as this lives.
  [[nodiscard]] Dialer& dialer(Protocol protocol) { return way(protocol).dialer; }
  /// Has sockets ready for these.
  void prepare(const std::vector<Listener>& listeners);
  [[nodiscard]] std::unique_ptr<InsidePort> listen_inside(Port port, OnInsidePort on_port);

 private:
  struct Way {
    Way(RelayContext& relay, std::shared_ptr<BrokerClient> broker, int netns, Protocol protocol)
        : pool(relay.loop(), std::move(broker), netns, protocol), dialer(relay, pool) {}
    SocketPool pool;
    NetnsDialer dialer;
  };
  [[nodiscard]] Way& way(Protocol protocol);

  RelayContext& relay_;
  std::shared_ptr<BrokerClient> broker_;
  UniqueFd netns_;
  PortWatch& watch_;
  std::unique_ptr<Way> streams_;    ///< made when needed
  std::unique_ptr<Way> datagrams_;  ///< made when needed
  BrokerCall call_;
};

// Access to a network namespace through a broker: sockets made inside watch its listeners and dial
// them. Nothing is started before a socket is in use inside: until then the watch is dormant, and
// no broker runs for this namespace's sake.
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
  void prepare_dialing(std::vector<Listener>& listeners) override { sockets_.prepare(listeners); }
  void request_diag();
  void on_failure(const Error& error);

  std::string name_;
  bool failure_logged_ = false;  ///< until it works again
  NetnsSockets sockets_;
};

}  // namespace portfwd
