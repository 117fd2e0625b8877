// The reverse forwards that there should be, and are: those asked for by hand and those declared in
// the configuration, never one that a container asks for. Each waits for a container of its name,
// lives as long as that, and waits for the next. Owned by the Controller, beside the ForwardTable,
// to whose observer it tells the same things; it knows neither the bus nor how a container is
// reached.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/settings.h"
#include "forward/forward_table.h"
#include "forward/reverse_forward.h"
#include "relay/host_sockets.h"
#include "relay/netns_dialer.h"

namespace portfwd {

class ReverseForwards final : public AccessObserver,
                              private ReverseForwardObserver,
                              private ForwardPortObserver {
 public:
  static constexpr Duration kConflictRetry = std::chrono::seconds(2);

  ReverseForwards(EventLoop& loop, const RelayServices& relay, TableObserver& observer,
                  const Settings& settings);

  /// Makes those that the settings declare; apply() does so too.
  void declare();
  /// Other settings from now on; declared ones come and go.
  void apply(const Settings& settings);

  /// @param reach where the port is opened; null while the container is away (allow_missing)
  /// @return the forward's id
  Answer<std::string> add(ContainerAccess* reach, ForwardRequest request);
  Answer<void> remove(std::string_view forward_id);
  void end_lifeline(std::string_view bus_name);
  /// Ends all of them for good, with the reason `daemon-stopped`.
  void stop();
  [[nodiscard]] bool draining() const { return !draining_.empty(); }

  [[nodiscard]] std::vector<ForwardInfo> infos() const;
  [[nodiscard]] std::optional<ForwardInfo> find(std::string_view id) const;
  [[nodiscard]] std::size_t size() const { return forwards_.size(); }
  /// How a forward came to be asked for, such as "declared at FILE:LINE".
  [[nodiscard]] std::string asked_by(std::string_view id) const;
  /// Those that the next life of the daemon is to know.
  [[nodiscard]] std::vector<ForwardSpec> kept() const;

  void on_access_added(ContainerAccess& reach) override;
  void on_access_changed(ContainerAccess& reach) override;
  void on_listeners(ContainerAccess&) override {}
  void on_access_removed(ContainerAccess& reach, RemovalReason reason) override;

 private:
  struct Kept {
    std::unique_ptr<ReverseForward> forward;
    bool announced = false;  ///< PortAdded was told, so PortRemoved must follow
  };
  using Forwards = std::map<std::string, Kept, std::less<>>;  ///< by id

  ReverseForward& create(ForwardRequest request, ContainerAccess* reach);
  Answer<std::string> give_back(const ReverseForward& forward);
  void attach(ReverseForward& forward, ContainerAccess& reach);
  void declare(const DeclaredForward& declared);
  void withdraw(Forwards::iterator kept, std::string_view reason);
  void tell_removed(Kept& kept, const ForwardInfo& info, std::string_view reason);
  [[nodiscard]] static bool may_attach(const ReverseForward& forward, const ContainerAccess& reach);
  [[nodiscard]] ContainerAccess* named(const std::string& container) const;
  [[nodiscard]] ReverseForward* find_target(std::string_view container_name,
                                            const Target& target) const;
  [[nodiscard]] ForwardPortSettings port_settings() const;
  void retry_conflicts();

  void on_settled(ReverseForward& forward, bool news) override;
  /// Its failed counter says so; nobody can be hurried.
  void on_target_refused(ForwardPort&, const Error&) override {}
  void on_drained(ForwardPort& port) override { draining_.remove(port); }

  EventLoop& loop_;
  RelayServices relay_;
  TableObserver& observer_;
  Settings settings_;
  HostSockets sockets_;
  NetnsDialer host_;
  std::map<std::string, ContainerAccess*> reaches_;  ///< by the container's id
  Forwards forwards_;
  DrainingPorts draining_;
  Timer conflict_retry_;
  std::uint64_t next_id_ = 1;
  bool stopped_ = false;
};

}  // namespace portfwd
