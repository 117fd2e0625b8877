#include "api/controller.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <cassert>
#include <optional>
#include <string_view>
#include <utility>

#include "api/explain.h"
#include "base/log.h"
#include "base/process_usage.h"
#include "base/unique_fd.h"
#include "base/version.h"
#include "policy/policy.h"

namespace portfwd {

ContainerInfo info_of(const ContainerAccess& reach, const Settings& settings) {
  const Container& c = reach.container();
  ContainerInfo info{.id = c.id,
                     .name = c.name,
                     .engine = c.engine,
                     .uid = c.uid,
                     .pid = c.pid,
                     .netns = c.netns,
                     .image = c.image,
                     .pod = c.pod,
                     .project = c.project,
                     .service = c.service,
                     .labels = c.labels,
                     .published = c.published,
                     .state = reach.state(),
                     .reach = reach.kind(),
                     .reason = reach.reason(),
                     .listeners = reach.listeners(),
                     .ever_listened = reach.ever_listened(),
                     .attached = c.attached};
  for (Listener& listener : info.listeners) listener.command = {};  // up to 4 KiB; never shown
  if (info.state != ContainerState::Watched) return info;
  if (std::string why = ignored_whole(settings, c); !why.empty()) {
    info.state = ContainerState::Ignored;
    info.reason = std::move(why);
  }
  return info;
}

namespace {

using Kind = Refusal::Kind;

std::string random_id() {
  std::array<std::uint8_t, 16> bytes{};
  (void)!::getrandom(bytes.data(), bytes.size(), 0);
  return fmt::format("{:02x}", fmt::join(bytes, ""));
}

Answer<std::string> id_of(const Answer<const Container*>& attached) {
  if (!attached) return std::unexpected(attached.error());
  return (*attached)->id;
}

std::string_view reason_text(RemovalReason reason) {
  switch (reason) {
    case RemovalReason::Gone:
      return "container-gone";
    case RemovalReason::Detached:
      return "detached";
    case RemovalReason::Replaced:
      return "replaced";
  }
  return "";
}

/// Divides the CPU budget: two fifths for finding containers, the rest for watching listeners.
void share_cpu_budget(const Settings& settings, AccessSet& accesses, Discovery& discovery) {
  constexpr double kDiscoveryShare = 0.4;
  Settings::Detect watching = settings.detect;
  watching.cpu_budget *= 1 - kDiscoveryShare;
  accesses.set_pace(watching);
  discovery.set_budget(settings.detect.cpu_budget / 100 * kDiscoveryShare);
}

/// UDP sockets are watched if the settings say so, and for requested forwards.
void share_udp_interest(const ForwardTable& table, AccessSet& accesses) {
  std::vector<Port> asked;
  for (const ListedForward& listed : table.forwards().all()) {
    const Forward& forward = *listed.forward;
    const bool detected = forward.origin() == Origin::Auto;
    if (forward.protocol() == Protocol::Udp && !detected) {
      asked.push_back(forward.key().target.port_number());
    }
  }
  const PolicyContext policy = table.policy();
  accesses.set_udp_interest(udp_interest(policy.settings, policy.ephemeral, asked));
}

void notify_changed(Notifier& notifier, const ContainerAccess& reach, const Settings& settings) {
  notifier.notify(&ControlObserver::on_container_changed, info_of(reach, settings));
}

/// Adds a persistent forward of the last run. One that the configuration declares now is refused,
/// which is logged.
void restore(const ForwardSpec& kept, ForwardTable& table) {
  const Answer<void> checked = check_lengths(kept);
  const Answer<std::string> restored =
      checked ? table.add(nullptr, restored_request(kept)) : std::unexpected(checked.error());
  if (!restored) log::info("cannot restore persistent forward: {}", restored.error().text);
}

/// Passes the state of the last run to the registry and the event log. The table reads its part in
/// its constructor.
Resumed resume_last_run(State& state, Controller::Parts& parts) {
  const std::string boot = sysctl::boot_id();
  const auto record = boot.empty() ? std::nullopt : parts.instance_file.open();
  Resumed resumed = resume(state, record, boot, random_id());
  state.instance = resumed.instance;
  parts.registry.ids().restore({.containers = state.containers,
                                .used = state.used_ids,
                                .next = resumed.instance.next_container},
                               resumed.knows_used_ids);
  parts.notifier.log().resume(resumed.instance.next_event, parts.loop.clock().wall());
  return resumed;
}

/// Forgets the containers that ended while no daemon ran, and emits ContainerRemoved for them.
/// @param announced whether this InstanceId has emitted their ContainerAdded
void forget_last_containers(Registry& registry, Notifier& notifier, bool announced) {
  for (const KnownContainer& gone : registry.ids().take_former()) {
    if (!announced) continue;
    notifier.emit({.type = Event::Type::ContainerRemoved,
                   .reason = std::string(reason_text(RemovalReason::Gone)),
                   .subject = ContainerInfo{.id = gone.id,
                                            .name = gone.name,
                                            .engine = gone.engine,
                                            .pid = gone.pid,
                                            .netns = gone.netns}});
  }
}

}  // namespace

Controller::Controller(Parts parts, Settings settings)
    : parts_(std::move(parts)),
      settings_(std::move(settings)),
      keeper_(parts_.loop, parts_.state_file, parts_.writer, [this] { return state(); }),
      last_run_(keeper_.load()),
      resumed_(resume_last_run(last_run_, parts_)),
      table_({.loop = parts_.loop,
              .relay = parts_.relay,
              .holders = parts_.holders,
              .host_paths = parts_.host_paths,
              .notifier = parts_.notifier,
              .on_state_changed = [this] { keeper_.changed(); }},
             settings_, last_run_),
      started_(parts_.loop.now()),
      recall_over_(parts_.loop, [this] {
        table_.forget_former_ids();
        forget_last_containers(parts_.registry, parts_.notifier, resumed_.continues);
      }) {
  parts_.notifier.add(*this);
  share_cpu_budget(settings_, parts_.access_set, parts_.discovery);
  parts_.discovery.opt_outs().recall(last_run_.opt_outs);
  parts_.discovery.opt_outs().set_observer([this] { keeper_.changed(); });
}

Result<void> Controller::start() {
  save_numbers();
  recall_over_.arm_after(kRecall);
  share_udp_interest(table_, parts_.access_set);
  table_.declare();
  for (const ForwardSpec& kept : std::exchange(last_run_, {}).forwards) restore(kept, table_);
  return parts_.discovery.start();
}

State Controller::state() const {
  State state = table_.state();
  state.opt_outs = parts_.discovery.opt_outs().all();
  state.instance.id = resumed_.instance.id;
  state.instance.boot = resumed_.instance.boot;
  state.instance.next_event = parts_.notifier.log().next();
  state.instance.next_container = parts_.registry.ids().next_number();
  state.containers = parts_.registry.known();
  if (state.containers.size() > State::kMostContainers) {
    state.containers.resize(State::kMostContainers);
  }
  state.used_ids = parts_.registry.ids().used(State::kMostUsedIds);
  return state;
}

/// Writes the numbers before they leave the daemon.
void Controller::save_numbers() {
  parts_.instance_file.write({{.id = resumed_.instance.id,
                               .boot = resumed_.instance.boot,
                               .next_event = parts_.notifier.log().next(),
                               .next_forward = table_.forwards().ids().next_number(),
                               .next_container = parts_.registry.ids().next_number()},
                              stopped_});
}

/// The state is taken before the table withdraws its forwards, and gets the number of the next
/// event afterwards.
void Controller::stop() {
  if (stopped_) return;
  State last = state();
  recall_over_.disarm();
  table_.stop();
  stopped_ = true;
  save_numbers();
  last.instance.next_event = parts_.notifier.log().next();
  keeper_.finish(last);
}

// ---- requests -----------------------------------------------------------------------------------

Answer<std::string> Controller::forward(const ForwardSpec& spec, std::string_view lifeline) {
  ForwardRequest request{.spec = spec, .lifeline = std::string(lifeline)};
  if (const auto ok = check(request, settings_.host.allow_remote); !ok) {
    return std::unexpected(ok.error());
  }
  const auto found = parts_.registry.resolve(spec.container);
  if (!found) {
    const bool may_come = spec.allow_missing && found.error().kind == Kind::NoSuchContainer;
    if (!may_come || spec.container.empty()) return std::unexpected(found.error());
    return table_.add(nullptr, std::move(request));
  }
  ContainerAccess* reach = parts_.access_set.find((*found)->id);
  assert(reach != nullptr);  // the AccessSet has every container of the registry
  if (reach->state() != ContainerState::Watched) return refuse(Kind::Inaccessible, reach->reason());
  return table_.add(reach, std::move(request));
}

bool Controller::is_pending(std::string_view forward_id) const {
  const Forward* forward = table_.forwards().find_id(forward_id);
  return forward != nullptr && forward->info().pending;
}

Answer<void> Controller::unforward(std::string_view forward_id) {
  return table_.remove(forward_id);
}

void Controller::lifeline_ended(std::string_view bus_name) {
  for (const std::string& id : table_.requests().of_lifeline(bus_name)) (void)table_.remove(id);
}

Answer<std::string> Controller::attach_pid(pid_t pid, std::string_view name) {
  if (auto ok = check_length("the name", name); !ok) return std::unexpected(ok.error());
  return id_of(parts_.attach.attach_pid(pid, name));
}

Answer<std::string> Controller::attach_netns(UniqueFd netns, std::string_view name) {
  if (auto ok = check_length("the name", name); !ok) return std::unexpected(ok.error());
  return id_of(parts_.attach.attach_netns(std::move(netns), name));
}

Answer<void> Controller::detach(std::string_view container_id) {
  return parts_.registry.detach(container_id);
}

Answer<Facts> Controller::explain(std::string_view container, std::string_view target) {
  if (auto named = check_length("the container's name", container); !named) {
    return std::unexpected(named.error());
  }
  const auto meant = check_explained_target(target);
  if (!meant) return std::unexpected(meant.error());
  return Explainer({parts_.registry, parts_.access_set, table_, parts_.notifier.log(), settings_})
      .explain(container, *meant);
}

Answer<void> Controller::reload() {
  keeper_.retry();
  auto read = parts_.read_settings();
  if (!read) {
    mistakes_ = std::move(read.error());
    const log::Fields fields{{"MESSAGE_ID", std::string(log::message_id::kConfiguration)}};
    log::write(log::Level::Error, "configuration not reloaded, errors found:", fields);
    for (const Mistake& m : mistakes_) log::write(log::Level::Error, m.message(), fields);
    return refuse(Kind::InvalidArgument, text_of(mistakes_));
  }
  mistakes_.clear();
  settings_ = std::move(*read);
  share_cpu_budget(settings_, parts_.access_set, parts_.discovery);
  table_.apply_settings();
  share_udp_interest(table_, parts_.access_set);
  for (ContainerAccess* reach : parts_.access_set.all()) {
    notify_changed(parts_.notifier, *reach, settings_);  // its state may be `ignored` now
  }
  log::write(log::Level::Info, "configuration reloaded",
             {{"MESSAGE_ID", std::string(log::message_id::kConfiguration)}});
  return {};
}

void Controller::on_diag_modules_changed() {
  parts_.access_set.on_diag_modules_changed();
  for (const ListedForward& listed : table_.forwards().all()) {  // their reasons depend on it
    parts_.notifier.notify(&ControlObserver::on_forward_changed, listed.forward->info());
  }
}

// ---- reading ------------------------------------------------------------------------------------

std::vector<Event> Controller::events_after(std::uint64_t seq) const {
  return parts_.notifier.log().after(seq);
}

std::uint64_t Controller::poll_interval_usec() const {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(parts_.access_set.poll_interval())
          .count());
}

std::vector<ContainerInfo> Controller::containers() const {
  std::vector<ContainerInfo> out;
  for (const ContainerAccess* reach : parts_.access_set.all())
    out.push_back(info_of(*reach, settings_));
  return out;
}

std::vector<ForwardInfo> Controller::forwards() const {
  return table_.forwards().infos();
}

std::vector<ForwardCounters> Controller::counters(std::string_view forward_id) const {
  std::vector<ForwardCounters> out;
  const auto add = [&](const Forward& f) { out.push_back({f.id(), f.counters()}); };
  if (forward_id.empty()) {
    for (const ListedForward& listed : table_.forwards().all()) add(*listed.forward);
  } else if (const Forward* one = table_.forwards().find_id(forward_id)) {
    add(*one);
  }
  return out;
}

// ---- notifications ------------------------------------------------------------------------------

void Controller::on_access_added(ContainerAccess& reach) {
  save_numbers();
  keeper_.changed();
  const ContainerInfo info = info_of(reach, settings_);
  parts_.notifier.notify(&ControlObserver::on_container_added, info);
  const bool known = resumed_.continues && reach.container().recalled;
  if (!known && !stopped_) {
    parts_.notifier.emit({.type = Event::Type::ContainerAdded, .subject = info});
  }
  table_.on_access_added(reach);
}

void Controller::on_access_changed(ContainerAccess& reach) {
  if (reach.container().engine_id.empty()) keeper_.changed();  // its anchor may have changed
  notify_changed(parts_.notifier, reach, settings_);
  table_.on_access_changed(reach);
}

void Controller::on_listeners(ContainerAccess& reach) {
  // A Unix socket does not count: a sandbox may have one long before its server is started.
  const auto has_port = [](const Listener& l) { return l.target().port() != nullptr; };
  if (std::ranges::any_of(reach.listeners(), has_port)) {
    parts_.discovery.fix_name(reach.container().id);
  }
  notify_changed(parts_.notifier, reach, settings_);
  table_.on_listeners(reach);
}

void Controller::on_access_removed(ContainerAccess& reach, RemovalReason reason) {
  table_.on_access_removed(reach, reason);
  const ContainerInfo info = info_of(reach, settings_);
  parts_.notifier.notify(&ControlObserver::on_container_removed, info);
  if (stopped_) return;
  parts_.notifier.emit({.type = Event::Type::ContainerRemoved,
                        .reason = std::string(reason_text(reason)),
                        .subject = info});
}

void Controller::on_event(const Event&) {
  save_numbers();
  keeper_.changed();
}

void Controller::on_forward_added(const ForwardInfo& forward) {
  save_numbers();
  keeper_.changed();
  if (forward.protocol == Protocol::Udp) share_udp_interest(table_, parts_.access_set);
}

void Controller::on_forward_removed(const ForwardInfo& forward) {
  keeper_.changed();
  if (forward.protocol == Protocol::Udp) share_udp_interest(table_, parts_.access_set);
}

namespace {

std::int64_t usec(Duration d) {
  return std::chrono::duration_cast<std::chrono::microseconds>(d).count();
}

void add_facts(const DiscoveryFigures& figures, Facts& facts) {
  const auto scans = static_cast<std::int64_t>(figures.scans);
  facts["scans"] = scans;
  facts["scan_cpu_usec"] = usec(figures.spent);
  facts["scan_cost_usec"] = scans == 0 ? 0 : usec(figures.spent) / scans;
  facts["processes"] = static_cast<std::int64_t>(figures.processes);
  facts["foreign_namespaces"] = static_cast<std::int64_t>(figures.foreign_namespaces);
  facts["exec_hints"] = figures.exec_hints;
  facts["cgroup_watches"] = static_cast<std::int64_t>(figures.cgroup_watches);
  facts["mount_watch"] = figures.mount_watch;
}

void add_facts(const RefusedClients& refused, Facts& facts) {
  facts["clients_refused_foreign"] = static_cast<std::int64_t>(refused.other_user);
  facts["clients_refused_unidentified"] = static_cast<std::int64_t>(refused.unidentified);
  facts["clients_refused_remote"] = static_cast<std::int64_t>(refused.remote);
}

std::string_view text_of(Shortage shortage) {
  switch (shortage) {
    case Shortage::None:
      return "none";
    case Shortage::BusiestWait:
      return "clients of the busiest forwards wait";
    case Shortage::AllWait:
      return "all new clients wait";
  }
  return "";
}

/// @param without_port the number of forwards in conflict because of a descriptor shortage
void add_facts(const AcceptGate& gate, std::ptrdiff_t without_port, Facts& facts) {
  const Shortage shortage = gate.measured_shortage();
  const bool conflicts_alone = shortage == Shortage::None && without_port > 0;
  facts["descriptor_shortage"] =
      std::string(conflicts_alone ? "forwards have no host port" : text_of(shortage));
  if (shortage != Shortage::None || without_port > 0) {
    facts["descriptor_remedy"] = std::string(kMoreDescriptors);
  }
  facts["forwards_waiting_for_descriptors"] = static_cast<std::int64_t>(gate.paused_members());
  facts["forwards_without_descriptor"] = std::int64_t{without_port};
}

bool lacks_descriptor(const ForwardInfo& f) {
  return f.state == ForwardState::Conflict && is_descriptor_shortage({f.error, "bind"});
}

Fact known_or_not(std::optional<std::int64_t> figure) {
  return figure ? Fact(*figure) : Fact("unknown");
}

std::vector<std::string> messages(const Mistakes& mistakes) {
  std::vector<std::string> out;
  for (const Mistake& m : mistakes) out.push_back(m.message());
  return out;
}

}  // namespace

Facts Controller::status() const {
  const ProcessUsage usage = process_usage();
  const auto seconds = [](Duration d) { return std::chrono::duration<double>(d).count(); };
  Facts facts{
      {"version", std::string(kVersion)},
      {"instance_id", instance_id()},
      {"uptime_seconds", seconds(parts_.loop.now() - started_)},
      {"containers", static_cast<std::int64_t>(parts_.access_set.all().size())},
      {"forwards", static_cast<std::int64_t>(table_.forwards().size())},
      {"leftover_connections", static_cast<std::int64_t>(table_.forwards().draining().leftovers())},
      {"poll_interval_usec", static_cast<std::int64_t>(poll_interval_usec())},
      {"longest_turn_usec", usec(parts_.loop.longest_turn())},
      {"longest_turn_in", parts_.loop.longest_turn_in()},
      {"cpu_seconds", seconds(usage.cpu)},
      {"memory_bytes", known_or_not(usage.resident_bytes)},
      {"open_fds", known_or_not(usage.open_fds)},
      {"max_fds", usage.max_fds},
      {"state_file", keeper_.problem().empty() ? "ok" : keeper_.problem()},
      {"configuration_errors", messages(mistakes_)}};
  parts_.access_set.add_facts(facts);
  add_facts(parts_.discovery.figures(), facts);
  add_facts(parts_.relay.identity.refused(), facts);
  add_facts(parts_.relay.gate, std::ranges::count_if(forwards(), lacks_descriptor), facts);
  parts_.add_facts(facts);
  return facts;
}

}  // namespace portfwd
