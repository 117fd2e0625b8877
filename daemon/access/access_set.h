// Access to all containers: one ContainerAccess for each container of the registry, by the best
// method available. Owned by main. It owns the NetnsAccess of each network namespace that can be
// watched, which all containers of that namespace share, and what all watches share: the Pace, the
// rate limit of close events and the UDP ports of interest.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "access/helper_access.h"
#include "access/netns_access.h"
#include "base/facts.h"
#include "broker/client/broker_launcher.h"
#include "config/settings.h"
#include "discover/registry.h"
#include "kernel/sock_diag.h"
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
    PathBrokers& path_brokers;
  };
  AccessSet(const Parts& parts, const Settings& settings);

  /// Must be called before the registry adds its first container.
  void set_observer(AccessObserver& observer) { observer_ = &observer; }
  void set_pace(const Settings::Detect& settings) { pace_.configure(settings); }
  /// Sets which UDP sockets count as listeners, from the next poll on.
  void set_udp_interest(UdpInterest udp) { udp_ = std::move(udp); }

  /// Must be called when DiagModules has changed.
  void on_diag_modules_changed();

  [[nodiscard]] std::vector<ContainerAccess*> all() const;  ///< ordered by id
  [[nodiscard]] ContainerAccess* find(std::string_view id) const;
  [[nodiscard]] Duration poll_interval() const { return pace_.interval(); }
  /// Whether the listeners that existed in all containers at the start have been reported, or
  /// cannot be known.
  [[nodiscard]] bool all_reported() const;
  void add_facts(Facts& facts) const;
  /// Whether sockets that were bound in containers or on the host are being removed.
  [[nodiscard]] bool removing_paths() const { return parts_.path_brokers.busy(); }

  void on_container_added(const Container& container) override;
  void on_container_changed(const Container& container) override;
  void on_container_removed(const Container& container, RemovalReason reason) override;
  void on_sign_of_life(const Container& container) override;

 private:
  using Namespaces = std::map<std::string, std::unique_ptr<NetnsAccess>>;
  struct Entry {
    Namespaces::iterator netns;  ///< end() if the container has no NetnsAccess
    std::unique_ptr<ContainerAccess> access;
  };
  using Opened = Answer<std::unique_ptr<NetnsAccess>>;
  [[nodiscard]] Entry make_entry(const Container& container);
  [[nodiscard]] Opened open(const Container& container);
  [[nodiscard]] Opened open_from_outside(const Container& container,
                                         const NetnsAccess::Parts& parts);

  Parts parts_;
  Pace pace_;
  CloseRateLimit rate_limit_;
  UdpInterest udp_;
  AccessObserver* observer_ = nullptr;
  Namespaces namespaces_;                              ///< by namespace_of()
  std::map<std::string, Entry, std::less<>> entries_;  ///< by the container's id
};

}  // namespace portfwd
