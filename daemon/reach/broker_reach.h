// A container entered through a broker: sockets made in its network namespace watch its listeners
// and dial them. Owned by the ReachSet. It knows no forwards.
//
// Nothing is started before a socket is in use inside: until then the watch is dormant, and the
// broker is only known by name.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/client/broker_set.h"
#include "broker/client/socket_pool.h"
#include "reach/process_names.h"
#include "reach/reach.h"
#include "relay/netns_dialer.h"
#include "watch/pace.h"
#include "watch/port_watch.h"

namespace portfwd {

class BrokerReach;

class BrokerReachObserver {
 public:
  virtual void on_listeners(BrokerReach& reach) = 0;

 protected:
  ~BrokerReachObserver() = default;
};

class BrokerReach final : public Reach, private WatchObserver, private DiagProvider {
 public:
  struct Parts {
    EventLoop& loop;
    Pace& pace;
    CloseStorm& storm;
    RelayContext& relay;
    ProcessNames& names;
    bool sock_diag;  ///< false: tcp_diag is missing, so listeners are read from /proc
    BrokerReachObserver& observer;
  };
  /// @param container borrowed @param broker why there is none, if so
  BrokerReach(const Parts& parts, const Container& container,
              Result<std::shared_ptr<BrokerClient>> broker);

  [[nodiscard]] const Container& container() const override { return container_; }
  [[nodiscard]] ContainerState state() const override;
  [[nodiscard]] ReachKind kind() const override;
  [[nodiscard]] const std::string& reason() const override { return reason_; }
  [[nodiscard]] const std::vector<Listener>& listeners() const override { return listeners_; }
  [[nodiscard]] bool ever_listened() const override { return ever_listened_; }
  /// Only for one that is watched.
  [[nodiscard]] Dialer& dialer() override { return *dialer_; }
  void hurry() override;

 private:
  void need_diag(PortWatch& watch) override;
  void on_listeners(Watcher& watcher) override;
  void got_diag(Result<BrokerClient::Sockets> sockets);

  Parts parts_;
  const Container& container_;
  std::string reason_;
  std::vector<Listener> listeners_;
  bool ever_listened_ = false;
  bool failure_told_ = false;             ///< until it works again
  std::shared_ptr<BrokerClient> broker_;  ///< null: inaccessible
  std::optional<SocketPool> pool_;
  std::optional<NetnsDialer> dialer_;
  std::optional<PortWatch> watch_;
  BrokerCall diag_call_;
};

}  // namespace portfwd
