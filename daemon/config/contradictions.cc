#include "config/contradictions.h"

#include <fmt/format.h>

#include <map>
#include <string_view>
#include <tuple>
#include <utility>

namespace portfwd {

namespace {

void check_intervals(Complaints& complaints, const Settings& settings) {
  if (settings.detect.min_interval <= settings.detect.max_interval) return;
  const Place least = complaints.noted("detect", "min_interval");
  complaints.add(least.line != 0 ? least : complaints.noted("detect", "max_interval"),
                 "[detect] min_interval is longer than max_interval");
}

/// Other machines are let in by two keys, so that no slip opens a port to them.
void check_remote(Complaints& complaints, const Settings& settings) {
  constexpr std::string_view kRemedy =
      "is no loopback address, so other machines could connect: say so with allow_remote = true";
  const Settings::Host& host = settings.host;
  if (host.bind.is_remote() && !host.allow_remote) {
    complaints.add(complaints.noted("host", "bind"),
                   fmt::format("[host] bind = \"{}\" {}", host.bind.only->text(), kRemedy));
  }
  for (const Rule& rule : settings.rules) {
    const bool allowed = rule.allow_remote.value_or(host.allow_remote);
    if (!rule.bind || !rule.bind->is_remote() || allowed) continue;
    complaints.add(rule.place, fmt::format("bind = \"{}\" {}", rule.bind->only->text(), kRemedy));
  }
}

/// The last host port that a rule gives is that of its highest port.
void check_host_ports(Complaints& complaints, const Settings& settings) {
  for (const Rule& rule : settings.rules) {
    if (!rule.host_port) continue;
    if (rule.ports.empty()) {
      complaints.add(rule.place, "host_port needs ports: the first of them gets it");
      continue;
    }
    const int offset = int{*rule.host_port} - rule.ports.front().first;
    for (const PortRange& range : rule.ports) {
      if (range.first + offset >= 1 && range.last + offset <= 65535) continue;
      complaints.add(
          rule.place,
          fmt::format("with host_port = {} the ports {} would be at {} to {} on the "
                      "host: they must be 1 to 65535",
                      *rule.host_port, range.text(), range.first + offset, range.last + offset));
    }
  }
}

/// Two can't have one host port, nor can one port inside have two.
class TwinSearch {
 public:
  explicit TwinSearch(Complaints& complaints) : complaints_(complaints) {}

  void add(const DeclaredForward& forward) {
    if (forward.container.empty() || forward.target == Target()) return;
    const auto [same, first] =
        targets_.try_emplace({forward.direction, forward.container, forward.target}, forward.place);
    if (!first) {
      complaints_.add(forward.place,
                      fmt::format("port {} of {} has a [[forward]] already, at {}",
                                  forward.target.text(), forward.container, same->second.text()));
      return;
    }
    if (forward.direction != Direction::In || !forward.host_port) return;
    const auto [there, free] =
        host_ports_.try_emplace({forward.target.protocol(), *forward.host_port}, forward.place);
    if (free) return;
    complaints_.add(forward.place,
                    fmt::format("host port {} is that of the [[forward]] at {} already",
                                *forward.host_port, there->second.text()));
  }

 private:
  Complaints& complaints_;
  std::map<std::tuple<Direction, std::string_view, Target>, Place> targets_;
  std::map<std::pair<Protocol, Port>, Place> host_ports_;
};

void check_forwards(Complaints& complaints, const std::vector<DeclaredForward>& forwards) {
  if (forwards.size() > kMostDeclaredForwards) {
    complaints.add(
        forwards[kMostDeclaredForwards].place,
        fmt::format("this [[forward]] is one too many: there can be {}, and there are {}",
                    kMostDeclaredForwards, forwards.size()));
    return;
  }
  TwinSearch twins(complaints);
  for (const DeclaredForward& forward : forwards) {
    if (forward.direction == Direction::Reverse && !forward.host_port) {
      complaints.add(forward.place, "a reverse [[forward]] needs host_port: where it leads to");
    }
    if (forward.direction == Direction::Reverse && forward.target.protocol() == Protocol::Udp) {
      complaints.add(forward.place, "a reverse [[forward]] is of TCP: leave out /udp");
    }
    twins.add(forward);
  }
}

}  // namespace

void find_contradictions(Complaints& complaints, const Settings& settings) {
  check_intervals(complaints, settings);
  check_remote(complaints, settings);
  check_host_ports(complaints, settings);
  check_forwards(complaints, settings.forwards);
}

}  // namespace portfwd
