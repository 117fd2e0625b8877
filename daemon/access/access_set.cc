#include "access/access_set.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "access/bridge_access.h"
#include "access/broker_access.h"
#include "access/helper_access.h"
#include "kernel/pidfd.h"
#include "kernel/proc_dir.h"

namespace portfwd {

namespace {

/// What tells its network namespace from others. One that can't be told has one for itself.
std::string namespace_of(const Container& container) {
  if (container.netns != 0) return fmt::format("net:{}", container.netns);
  const auto files = ProcDir().net_files(container.pid);
  return files ? fmt::format("net:{}", *files) : container.id;
}

std::string why_not(const Container& container, const Error& error) {
  if (error.code == EPERM) {
    return fmt::format(
        "its network namespace belongs to another user (uid {}): run it rootless as "
        "this user, or run portfwd as its owner",
        container.uid);
  }
  return fmt::format("it can't be entered: {}", error.text());
}

/// Whether the process is in the daemon's own user namespace: its files say so for anybody's. One
/// in a user namespace of its own is another user's rootless container, which no bridge leads to.
/// Fact: ProcFacts.TheIdMapOfAnotherUserNamespaceIsAnother
bool is_roots(pid_t pid) {
  const ProcDir proc;
  const auto map = proc.read(pid, "uid_map");
  return map && *map == proc.read(::getpid(), "uid_map").value_or("");
}

}  // namespace

AccessSet::AccessSet(const Parts& parts, const Settings& settings)
    : parts_(parts), pace_(parts.loop, settings.detect) {}

std::vector<ContainerAccess*> AccessSet::all() const {
  std::vector<ContainerAccess*> out;
  out.reserve(places_.size());
  for (const auto& [id, place] : places_) out.push_back(place.reach);
  return out;
}

ContainerAccess* AccessSet::find(std::string_view id) const {
  const auto found = places_.find(id);
  return found == places_.end() ? nullptr : found->second.reach;
}

bool AccessSet::settled() const {
  return std::ranges::all_of(shared_, [](const auto& netns) { return netns.second.settled(); });
}

void AccessSet::add_facts(Facts& facts) const {
  const auto usec = [](Duration d) {
    return std::chrono::duration_cast<std::chrono::microseconds>(d).count();
  };
  const auto answers = [&](Protocol protocol) -> std::string {
    const Result<void>& found = parts_.modules.of(protocol);
    return found ? "yes" : found.error().text();
  };
  facts["sock_diag"] = answers(Protocol::Tcp);
  facts["udp_diag"] = answers(Protocol::Udp);
  facts["poll_cost_usec"] = usec(pace_.mean_cost());
  facts["poll_cpu_usec"] = usec(pace_.total_cost());
  facts["brokers"] = static_cast<std::int64_t>(parts_.brokers.pids().size());
  facts["broker_failures"] = static_cast<std::int64_t>(parts_.brokers.failures());
}

SharedNetns::Way AccessSet::open(const Container& container, NetnsAccessObserver& observer) {
  const NetnsAccess::Parts parts{
      {parts_.loop, pace_, storm_, udp_, parts_.modules}, parts_.names, observer};
  if (container.on_host) return {nullptr, container.inaccessible};
  if (!container.inaccessible.empty()) return open_from_outside(container, parts);
  auto broker = parts_.brokers.enter(container.netns_fd.get());
  if (!broker) return {nullptr, why_not(container, broker.error())};
  UniqueFd netns(::fcntl(container.netns_fd.get(), F_DUPFD_CLOEXEC, 0));  // may outlive this one
  if (!netns.valid()) return {nullptr, why_not(container, {errno, "fcntl"})};
  return {std::make_unique<BrokerAccess>(
              parts, parts_.relay,
              BrokerAccess::Entry{container.name, container.pid, container.netns, std::move(netns),
                                  std::move(*broker)}),
          ""};
}

SharedNetns::Way AccessSet::open_from_outside(const Container& container,
                                              const NetnsAccess::Parts& parts) {
  if (container.pid == 0) return {nullptr, container.inaccessible};
  const auto process = open_pidfd(container.pid);
  auto inside = BridgeDialer::Inside::open(container.pid);
  if (!inside || !is_roots(container.pid)) return {nullptr, container.inaccessible};
  // Else what was opened by its pid could be another process's.
  if (!process || has_exited(process->get())) return {nullptr, container.inaccessible};
  if (auto launcher = parts_.helpers.launcher_for(container)) {
    return {std::make_unique<HelperAccess>(
                parts, parts_.relay,
                HelperAccess::Entry{container.pid, std::move(*inside), std::move(launcher)}),
            ""};
  }
  return {std::make_unique<BridgeAccess>(parts, parts_.relay, container.pid, std::move(*inside)),
          ""};
}

void AccessSet::on_container_added(const Container& container) {
  const auto [netns, fresh] =
      shared_.try_emplace(namespace_of(container), parts_.loop, *observer_,
                          [&](NetnsAccessObserver& observer) { return open(container, observer); });
  NetnsMember& added = netns->second.add(container);
  places_[container.id] = {&added, netns};
  observer_->on_access_added(added);
  netns->second.deal();
}

void AccessSet::on_container_changed(const Container& container) {
  const Place& place = places_.at(container.id);
  observer_->on_access_changed(*place.reach);
  place.netns->second.deal();
}

void AccessSet::on_container_removed(const Container& container, RemovalReason reason) {
  const auto found = places_.find(container.id);
  const Place place = found->second;
  observer_->on_access_removed(*place.reach, reason);
  places_.erase(found);
  place.netns->second.remove(*place.reach);
  if (place.netns->second.empty()) {
    shared_.erase(place.netns);  // its sockets with it: they pin the namespace
  } else {
    place.netns->second.deal();
  }
}

void AccessSet::follow_diag_modules() {
  for (auto& [name, netns] : shared_) netns.renew_source();
}

void AccessSet::on_sign_of_life(const Container& container) {
  places_.at(container.id).reach->expedite();
}

}  // namespace portfwd
