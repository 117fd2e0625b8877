// The controller: carries out user requests (Control), notifies of containers, and passes changes
// of containers on to the forward table. It owns the settings in force, the table and the
// StateKeeper. Owned by main. It makes no decision of its own about containers (Registry) or
// forwards (ForwardTable).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "access/access_set.h"
#include "access/container_access.h"
#include "api/control.h"
#include "config/config_file.h"
#include "config/settings.h"
#include "discover/container_inspector.h"
#include "discover/discovery.h"
#include "forward/forward_table.h"
#include "forward/model.h"
#include "state/state_keeper.h"

namespace portfwd {

/// A container as it is shown. A watched container of which no port is ever forwarded automatically
/// is shown as ignored.
[[nodiscard]] ContainerInfo info_of(const ContainerAccess& reach, const Settings& settings);

class Controller final : public Control, public AccessObserver, private ControlObserver {
 public:
  using ReadSettings = std::function<std::expected<Settings, Mistakes>()>;
  struct Parts {
    EventLoop& loop;
    Discovery& discovery;
    Registry& registry;
    AttachRequests& attach;
    AccessSet& access_set;
    RelayServices relay;
    const PortHolder& holders;
    HostPathParts host_paths;
    Notifier& notifier;
    const StateFile& state_file;            ///< read by the constructor
    InstanceFile& instance_file;            ///< opened by the constructor
    FileWriter& writer;                     ///< of the state
    ReadSettings read_settings;             ///< for reload()
    std::function<void(Facts&)> add_facts;  ///< adds the facts of other parts to status()
  };
  Controller(Parts parts, Settings settings);
  Controller(const Controller&) = delete;
  Controller& operator=(const Controller&) = delete;

  /// Creates the declared and the persistent forwards, then starts discovery. @return why discovery
  /// cannot start
  Result<void> start();
  /// Whether all listeners that existed at the start were read and reconciled.
  [[nodiscard]] bool all_reported() const {
    return parts_.access_set.all_reported() && !table_.busy();
  }
  /// Must be called when DiagModules has changed.
  void on_diag_modules_changed();
  /// Ends all forwards. No event is emitted afterwards. Then draining() is true until the last
  /// connection has ended and the state is written.
  void stop();
  [[nodiscard]] bool draining() const {
    return !table_.forwards().draining().empty() || keeper_.finishing() ||
           parts_.access_set.removing_paths();
  }

  Answer<std::string> forward(const ForwardSpec& spec, std::string_view lifeline) override;
  [[nodiscard]] bool is_pending(std::string_view forward_id) const override;
  Answer<void> unforward(std::string_view forward_id) override;
  Answer<std::string> attach_pid(pid_t pid, std::string_view name) override;
  Answer<std::string> attach_netns(UniqueFd netns, std::string_view name) override;
  Answer<void> detach(std::string_view container_id) override;
  Answer<Facts> explain(std::string_view container, std::string_view target) override;
  Answer<void> reload() override;
  void lifeline_ended(std::string_view bus_name) override;

  [[nodiscard]] std::vector<Event> events_after(std::uint64_t seq) const override;
  [[nodiscard]] Facts status() const override;
  [[nodiscard]] std::string instance_id() const override { return resumed_.instance.id; }
  [[nodiscard]] std::uint64_t poll_interval_usec() const override;
  [[nodiscard]] std::vector<ForwardInfo> forwards() const override;
  [[nodiscard]] std::vector<ContainerInfo> containers() const override;
  [[nodiscard]] std::vector<ForwardCounters> counters(std::string_view forward_id) const override;

 private:
  void on_access_added(ContainerAccess& reach) override;
  void on_access_changed(ContainerAccess& reach) override;
  void on_listeners(ContainerAccess& reach) override;
  void on_access_removed(ContainerAccess& reach, RemovalReason reason) override;

  void on_forward_added(const ForwardInfo& forward) override;
  void on_forward_removed(const ForwardInfo& forward) override;
  void on_event(const Event& event) override;

  void save_numbers();
  [[nodiscard]] State state() const;

  /// Containers and forwards of the last run that are not found again within this time are gone.
  /// Longer than Discovery waits for facts of processes, and than the default `linger`.
  static constexpr Duration kRecall = std::chrono::seconds(5);

  Parts parts_;
  Settings settings_;  ///< those in force; the table refers to them
  Mistakes mistakes_;  ///< of the last reload, which was not applied; else empty
  StateKeeper keeper_;
  State last_run_;
  const Resumed resumed_;
  ForwardTable table_;
  bool stopped_ = false;
  TimePoint started_;
  Timer recall_over_;
};

}  // namespace portfwd
