// The daemon as its users see it: answers what they ask (Control), and turns what happens below
// into numbered events for whoever listens. Owned by main. Containers come from the registry,
// forwards from the table; the controller decides nothing itself.
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

// A container as it is shown: what discovery and its reach know, and whether the configuration
// ignores it.
[[nodiscard]] ContainerInfo info_of(const ContainerAccess& reach, const Settings& settings);

class Controller final : public Control, public AccessObserver, private ControlObserver {
 public:
  using ReadSettings = std::function<std::expected<Settings, Mistakes>()>;
  struct Parts {
    EventLoop& loop;
    Discovery& discovery;
    Registry& registry;
    AttachRequests& attach;
    AccessSet& reaches;
    RelayServices relay;
    const PortHolder& holders;
    Notifier& notifier;
    const StateFile& state_file;  ///< read at once
    InstanceFile& instance_file;  ///< likewise
    FileWriter& writer;           ///< of the state, while the loop runs and from stop() on
    ReadSettings read_settings;   ///< for reload()
    std::function<void(Facts&)> add_facts;  ///< what else status() is to tell
  };
  Controller(Parts parts, Settings settings);
  Controller(const Controller&) = delete;
  Controller& operator=(const Controller&) = delete;

  /// Makes the forwards that wait for no listener, then begins to look for containers. @return why
  /// that can't be done
  Result<void> start();
  /// Whether all that was open when it started is forwarded, as far as it is.
  [[nodiscard]] bool settled() const { return parts_.reaches.settled() && !table_.busy(); }
  /// The kernel can tell more or fewer clients than before: see DiagModules.
  void follow_diag_modules();
  /// Ends every forward, and numbers no event from then on; then draining() tells when the last
  /// connection is over and the state is written.
  void stop();
  [[nodiscard]] bool draining() const {
    return !table_.forwards().draining().empty() || keeper_.finishing();
  }

  Answer<std::string> forward(const ForwardSpec& spec, std::string_view lifeline) override;
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

  void note_numbers();
  [[nodiscard]] State state() const;

  /// What was there in the last life is found again within this time, or is gone. Longer than
  /// Discovery waits for what processes say, and than the usual `linger`.
  static constexpr Duration kRecall = std::chrono::seconds(5);

  Parts parts_;
  Settings settings_;  ///< those in force; the table refers to them
  Mistakes mistakes_;  ///< of the last reload; the settings before it are in force
  StateKeeper keeper_;
  State last_life_;
  const Resumed resumed_;
  ForwardTable table_;
  bool stopped_ = false;
  TimePoint started_;
  Timer recall_over_;
};

}  // namespace portfwd
