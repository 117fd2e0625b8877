// A Reach for each container of the registry, by the best way there is. Owned by main. It turns
// what the registry tells into what the forward table needs, and keeps one pace for all the
// looking.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/facts.h"
#include "config/settings.h"
#include "discover/registry.h"
#include "reach/broker_reach.h"

namespace portfwd {

class ReachSet final : public RegistryObserver, private BrokerReachObserver {
 public:
  struct Parts {
    EventLoop& loop;
    BrokerSet& brokers;
    RelayContext& relay;
    ProcessNames& names;
    Result<void> sock_diag;  ///< SockDiag::self_test()
  };
  ReachSet(const Parts& parts, const Settings& settings);

  /// To be set before the registry finds anything.
  void set_observer(ReachObserver& observer) { observer_ = &observer; }
  void set_pace(const Settings::Detect& settings) { pace_.configure(settings); }

  [[nodiscard]] std::vector<Reach*> all() const;  ///< by id
  [[nodiscard]] Reach* find(std::string_view id) const;
  [[nodiscard]] Duration poll_interval() const { return pace_.interval(); }
  void add_facts(Facts& facts) const;

  void on_container_added(const Container& container) override;
  void on_container_changed(const Container& container) override;
  void on_container_removed(const Container& container, RemovalReason reason) override;
  void on_sign_of_life(const Container& container) override;

 private:
  void on_listeners(BrokerReach& reach) override { observer_->on_listeners(reach); }

  Parts parts_;
  Pace pace_;
  CloseStorm storm_;
  ReachObserver* observer_ = nullptr;
  std::map<std::string, std::unique_ptr<BrokerReach>, std::less<>> reaches_;
};

}  // namespace portfwd
