// A ContainerAccess for each container of the registry, by the best way there is. Owned by main. It
// turns what the registry tells into what the forward table needs: containers that share a network
// namespace share the access to it, and all looking has one pace.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "access/helper_containers.h"
#include "access/shared_netns.h"
#include "base/facts.h"
#include "broker/client/broker_set.h"
#include "config/settings.h"
#include "discover/registry.h"
#include "kernel/diag_modules.h"
#include "relay/relay_context.h"

namespace portfwd {

class AccessSet final : public RegistryObserver {
 public:
  struct Parts {
    EventLoop& loop;
    BrokerSet& brokers;
    HelperContainers& helpers;
    RelayContext& relay;
    ProcessNames& names;
    const DiagModules& modules;
  };
  AccessSet(const Parts& parts, const Settings& settings);

  /// To be set before the registry finds anything.
  void set_observer(AccessObserver& observer) { observer_ = &observer; }
  void set_pace(const Settings::Detect& settings) { pace_.configure(settings); }
  /// From the next look on.
  void look_for(UdpInterest udp) { udp_ = std::move(udp); }

  /// What the kernel has of DiagModules has changed.
  void follow_diag_modules();

  [[nodiscard]] std::vector<ContainerAccess*> all() const;  ///< by id
  [[nodiscard]] ContainerAccess* find(std::string_view id) const;
  [[nodiscard]] Duration poll_interval() const { return pace_.interval(); }
  /// Whether what was open in all containers at the start was told (or can't be known).
  [[nodiscard]] bool settled() const;
  void add_facts(Facts& facts) const;

  void on_container_added(const Container& container) override;
  void on_container_changed(const Container& container) override;
  void on_container_removed(const Container& container, RemovalReason reason) override;
  void on_sign_of_life(const Container& container) override;

 private:
  using Shared = std::map<std::string, SharedNetns>;
  struct Place {
    NetnsMember* reach;
    Shared::iterator netns;
  };
  [[nodiscard]] SharedNetns::Way open(const Container& container, NetnsAccessObserver& observer);
  [[nodiscard]] SharedNetns::Way open_from_outside(const Container& container,
                                                   const NetnsAccess::Parts& parts);

  Parts parts_;
  Pace pace_;
  CloseStorm storm_;
  UdpInterest udp_;
  AccessObserver* observer_ = nullptr;
  Shared shared_;                                     ///< by what tells one namespace from another
  std::map<std::string, Place, std::less<>> places_;  ///< by the container's id
};

}  // namespace portfwd
