// What the Controller tells of the daemon as a whole: its figures, gathered from the parts that
// take them.
#include <algorithm>
#include <optional>
#include <string_view>

#include "base/descriptors.h"
#include "base/process_usage.h"
#include "base/version.h"
#include "forward/controller.h"

namespace portfwd {

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
  facts["clients_refused_foreign"] = static_cast<std::int64_t>(refused.foreign);
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

/// @param without_port forwards in conflict for want of a descriptor
void add_facts(const AcceptGate& gate, std::ptrdiff_t without_port, Facts& facts) {
  const Shortage shortage = gate.measured_shortage();
  const bool conflicts_alone = shortage == Shortage::None && without_port > 0;
  facts["descriptor_shortage"] =
      std::string(conflicts_alone ? "forwards have no host port" : text_of(shortage));
  if (shortage != Shortage::None || without_port > 0) {
    facts["descriptor_remedy"] = std::string(kMoreDescriptors);
  }
  facts["forwards_waiting_for_descriptors"] = static_cast<std::int64_t>(gate.kept_waiting());
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
  Facts facts{{"version", std::string(kVersion)},
              {"instance_id", instance_id_},
              {"uptime_seconds", seconds(parts_.loop.now() - started_)},
              {"containers", static_cast<std::int64_t>(parts_.reaches.all().size())},
              {"forwards", static_cast<std::int64_t>(table_.size())},
              {"leftover_connections", static_cast<std::int64_t>(table_.leftover_connections())},
              {"poll_interval_usec", static_cast<std::int64_t>(poll_interval_usec())},
              {"longest_turn_usec", usec(parts_.loop.longest_turn())},
              {"longest_turn_in", parts_.loop.longest_turn_in()},
              {"cpu_seconds", seconds(usage.cpu)},
              {"memory_bytes", known_or_not(usage.resident_bytes)},
              {"open_fds", known_or_not(usage.open_fds)},
              {"max_fds", usage.max_fds},
              {"state_file", keeper_.problem().empty() ? "ok" : keeper_.problem()},
              {"configuration_errors", messages(mistakes_)}};
  parts_.reaches.add_facts(facts);
  add_facts(parts_.discovery.figures(), facts);
  add_facts(parts_.relay.identity.refused(), facts);
  add_facts(parts_.relay.gate, std::ranges::count_if(forwards(), lacks_descriptor), facts);
  parts_.add_facts(facts);
  return facts;
}

}  // namespace portfwd
