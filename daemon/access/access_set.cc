#include "access/access_set.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <utility>

#include "access/bridge_access.h"
#include "access/helper_access.h"
#include "access/netns_access.h"
#include "kernel/netns.h"
#include "kernel/procfs.h"

namespace portfwd {

namespace {

/// A key for the network namespace of the container. If the namespace cannot be identified, the key
/// is the container's id, as if no other container shared it.
std::string namespace_of(const Container& container) {
  if (container.netns != 0) return fmt::format("net:{}", container.netns);
  const auto files = ProcDir().net_files(container.pid);
  return files ? fmt::format("net:{}", *files) : container.id;
}

std::string inaccessible_reason(const Container& container, const Error& error) {
  if (error.code == EPERM) {
    return fmt::format(
        "cannot enter its network namespace: it belongs to another user (uid {}); run the "
        "container rootless as this user, or run portfwd as its owner",
        container.uid);
  }
  return fmt::format("cannot enter its network namespace: {}", error.text());
}

std::unexpected<Refusal> inaccessible(std::string why) {
  return refuse(Refusal::Kind::Inaccessible, std::move(why));
}

/// Whether the process has the uid map of the daemon, and so is in the same user namespace. A
/// process with another map belongs to a rootless container of another user, which no bridge
/// reaches. Any process's map is readable.
/// Fact: ProcFacts.TheIdMapDiffersBetweenUserNamespaces
bool in_own_userns(pid_t pid) {
  const ProcDir proc;
  const auto map = proc.read(pid, "uid_map");
  return map && *map == proc.read(::getpid(), "uid_map").value_or("");
}

/// Access to a container that cannot be entered or must not be.
class NoAccess final : public ContainerAccess {
 public:
  NoAccess(const Container& container, std::string reason)
      : container_(container), reason_(std::move(reason)) {}

  [[nodiscard]] const Container& container() const override { return container_; }
  [[nodiscard]] ContainerState state() const override {
    return container_.on_host ? ContainerState::Ignored : ContainerState::Inaccessible;
  }
  [[nodiscard]] AccessKind kind() const override { return AccessKind::None; }
  [[nodiscard]] const std::string& reason() const override { return reason_; }
  [[nodiscard]] const std::vector<Listener>& listeners() const override { return listeners_; }
  [[nodiscard]] bool ever_listened() const override { return false; }
  [[nodiscard]] Dialer& dialer(const DialOptions&) override {
    assert(false);
    std::abort();
  }
  void expedite() override {}
  [[nodiscard]] Answer<std::unique_ptr<InsidePort>> listen_inside(const InsidePlace&,
                                                                  OnInsidePort) override {
    return inaccessible(reason_);
  }

 private:
  const Container& container_;
  std::string reason_;
  std::vector<Listener> listeners_;  ///< none
};

}  // namespace

AccessSet::AccessSet(const Parts& parts, const Settings& settings)
    : parts_(parts), pace_(parts.loop, settings.detect) {}

std::vector<ContainerAccess*> AccessSet::all() const {
  std::vector<ContainerAccess*> out;
  out.reserve(entries_.size());
  for (const auto& [id, entry] : entries_) out.push_back(entry.access.get());
  return out;
}

ContainerAccess* AccessSet::find(std::string_view id) const {
  const auto found = entries_.find(id);
  return found == entries_.end() ? nullptr : found->second.access.get();
}

bool AccessSet::all_reported() const {
  return std::ranges::all_of(namespaces_,
                             [](const auto& netns) { return netns.second->all_reported(); });
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
  facts["unix_diag"] = answers(Protocol::Unix);
  facts["poll_cost_usec"] = usec(pace_.mean_cost());
  facts["poll_cpu_usec"] = usec(pace_.total_cost());
  facts["brokers"] = static_cast<std::int64_t>(parts_.brokers.pids().size());
  facts["path_brokers_stuck"] = static_cast<std::int64_t>(parts_.path_brokers.stuck().size());
  facts["broker_failures"] = static_cast<std::int64_t>(parts_.brokers.failures());
}

AccessSet::Opened AccessSet::open(const Container& container) {
  const NetnsAccess::Parts parts{{parts_.loop, pace_, rate_limit_, udp_, parts_.modules},
                                 parts_.names,
                                 *observer_,
                                 parts_.path_brokers};
  if (container.on_host) return inaccessible(container.inaccessible);
  if (!container.inaccessible.empty()) return open_from_outside(container, parts);
  auto broker = parts_.brokers.enter(container.netns_fd.get());
  if (!broker) return inaccessible(inaccessible_reason(container, broker.error()));
  UniqueFd netns(::fcntl(container.netns_fd.get(), F_DUPFD_CLOEXEC,
                         0));  // the access may outlive this container
  if (!netns.valid()) return inaccessible(inaccessible_reason(container, {errno, "fcntl"}));
  return std::make_unique<BrokerAccess>(
      parts, parts_.relay,
      BrokerAccess::Entry{container.name, container.pid, container.netns, std::move(netns),
                          std::move(*broker)});
}

AccessSet::Opened AccessSet::open_from_outside(const Container& container,
                                               const NetnsAccess::Parts& parts) {
  if (container.pid == 0) return inaccessible(container.inaccessible);
  const auto process = open_pidfd(container.pid);
  auto inside = BridgeDialer::Inside::open(container.pid);
  if (!inside || !in_own_userns(container.pid)) return inaccessible(container.inaccessible);
  // If it has exited, the files opened by its pid may belong to another process.
  if (!process || has_exited(process->get())) return inaccessible(container.inaccessible);
  if (auto launcher = parts_.helpers.launcher_for(container)) {
    return std::make_unique<HelperAccess>(
        parts, parts_.relay,
        HelperAccess::Entry{container.pid, std::move(*inside), std::move(launcher)});
  }
  return std::make_unique<BridgeAccess>(parts, parts_.relay, container.pid, std::move(*inside));
}

AccessSet::Entry AccessSet::make_entry(const Container& container) {
  auto [netns, fresh] = namespaces_.try_emplace(namespace_of(container));
  if (fresh) {
    auto opened = open(container);
    if (!opened) {
      namespaces_.erase(netns);
      return {namespaces_.end(), std::make_unique<NoAccess>(container, opened.error().text)};
    }
    netns->second = std::move(*opened);
  }
  return {netns, netns->second->add(container)};
}

void AccessSet::on_container_added(const Container& container) {
  assert(observer_ != nullptr && !entries_.contains(container.id));
  const Entry& added = entries_.emplace(container.id, make_entry(container)).first->second;
  observer_->on_access_added(*added.access);
  if (added.netns != namespaces_.end()) added.netns->second->distribute_listeners();
}

void AccessSet::on_container_changed(const Container& container) {
  const Entry& entry = entries_.at(container.id);
  observer_->on_access_changed(*entry.access);
  if (entry.netns != namespaces_.end()) entry.netns->second->distribute_listeners();
}

void AccessSet::on_container_removed(const Container& container, RemovalReason reason) {
  const auto found = entries_.find(container.id);
  assert(found != entries_.end());
  observer_->on_access_removed(*found->second.access, reason);
  const auto netns = found->second.netns;
  entries_.erase(found);
  if (netns == namespaces_.end()) return;
  if (netns->second->has_members()) return netns->second->distribute_listeners();
  namespaces_.erase(netns);  // closes its sockets, which pin the namespace
}

void AccessSet::on_diag_modules_changed() {
  for (auto& [name, netns] : namespaces_) netns->renew_source();
}

void AccessSet::on_sign_of_life(const Container& container) {
  entries_.at(container.id).access->expedite();
}

}  // namespace portfwd
