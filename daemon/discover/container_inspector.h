// Descriptions of containers from their processes and network namespaces: whether the daemon is
// concerned with a container, whether it can be entered, and its name. Reads /proc. Discovery and
// AttachRequests pass the descriptions to the Registry.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "discover/container.h"
#include "discover/hints.h"
#include "discover/process_table.h"
#include "discover/registry.h"
#include "event/event_loop.h"

namespace portfwd {

/// A process and its network namespace. The process was still alive after its namespace had been
/// opened, so a reused pid cannot mix two processes.
struct PinnedProcess {
  UniqueFd pidfd;
  Netns netns;
};
/// Open both. @return ESRCH if the process has exited or exits meanwhile, EACCES if it is another
/// user's
[[nodiscard]] Result<PinnedProcess> pin_process(const ProcDir& proc, pid_t pid);

// Network namespaces that were not visible or not accessible at their first check. A namespace is
// inaccessible for a moment while a runtime prepares the container, even if the user owns it.
// Therefore only a second check, after kSecondCheckDelay, is final. Owned by the
// ContainerInspector.
class UnseenNamespaces {
 public:
  /// @param table borrowed; its processes in such namespaces are checked again
  /// @param on_second_check called after that
  UnseenNamespaces(EventLoop& loop, ProcessTable& table,
                   std::move_only_function<void()> on_second_check);

  /// Whether this is the second check of the namespace. The first call records the first check and
  /// schedules the second.
  [[nodiscard]] bool confirm(std::uint64_t netns);
  /// The namespace has been judged.
  void forget(std::uint64_t netns) { first_check_.erase(netns); }

 private:
  void recheck();

  EventLoop& loop_;
  ProcessTable& table_;
  std::move_only_function<void()> on_second_check_;
  std::map<std::uint64_t, TimePoint> first_check_;
  Timer second_check_;
};

// Describes the containers of processes and named namespaces. Owned by Discovery.
class ContainerInspector {
 public:
  using Process = ProcessTable::Process;
  struct Parts {  ///< all borrowed; must outlive this
    EventLoop& loop;
    const ProcDir& proc;
    ProcessFactsCache& facts;
    const Identifier& identifier;
    const Boundary& boundary;
    ProcessTable& table;
    const MountWatch& mounts;
  };
  /// @param netns_folder where `ip netns` mounts its namespaces
  /// @param on_second_check called when containers that could not be described may be now
  ContainerInspector(const Parts& parts, std::string netns_folder,
                     std::move_only_function<void()> on_second_check);

  /// Pin the process by a pidfd. @param netns as in ContainerKey
  /// @return pid and namespace; the owner only if the namespace is the host's or not visible.
  /// Nothing if the process has exited or is in another namespace by now
  [[nodiscard]] std::optional<DiscoveredContainer> pin(const Process& process, std::uint64_t netns);
  /// Complete the result of pin(). @return false if the daemon is not concerned with the container,
  /// or if a second check must follow
  [[nodiscard]] bool describe(DiscoveredContainer& found, const Process& process,
                              const ContainerKey& key);
  /// Describe a namespace made by `ip netns add NAME`, which is a container even without processes.
  /// @return nothing for other mounts (a namespace mounted by an engine is found by its processes),
  /// and if the daemon is not concerned with it
  [[nodiscard]] std::optional<DiscoveredContainer> describe_named(std::uint64_t netns,
                                                                  const std::string& path);

  /// The identity of the process. If no engine is recognised in a named namespace, it has the name
  /// of the namespace.
  [[nodiscard]] Identity identity_of(pid_t pid, std::uint64_t netns) const;
  /// Whether the process only serves the engine. Such a process cannot be an anchor.
  [[nodiscard]] bool is_engine_process(pid_t pid) const;

  /// Whether the namespace was judged not to concern the daemon.
  [[nodiscard]] bool is_outside(std::uint64_t netns) const { return outside_.contains(netns); }
  /// Judge every namespace again, as inodes are reused.
  void forget_outside() { outside_.clear(); }
  /// Whether, since the last call, a process could not be pinned for lack of file descriptors.
  [[nodiscard]] bool take_shortage() { return std::exchange(short_of_descriptors_, false); }

 private:
  [[nodiscard]] bool describe_on_host(DiscoveredContainer& found) const;
  [[nodiscard]] bool describe_unseen(DiscoveredContainer& found, const ContainerKey& key);
  [[nodiscard]] bool describe_seen(DiscoveredContainer& found, const ContainerKey& key);
  /// Whether the namespace will stay invisible or inaccessible.
  [[nodiscard]] bool stays_inaccessible(pid_t pid, std::uint64_t netns);
  [[nodiscard]] bool is_rootlessport(pid_t pid) const;

  const ProcDir& proc_;
  ProcessFactsCache& facts_;
  const Identifier& identifier_;
  const Boundary& boundary_;
  ProcessTable& table_;
  const MountWatch& mounts_;
  const std::string netns_folder_;
  UnseenNamespaces unseen_;
  std::set<std::uint64_t> outside_;  ///< namespaces that do not concern the daemon
  bool short_of_descriptors_ = false;
};

// Requests of the user to attach a container. Each refusal contains the remedy. Owned by main.
class AttachRequests {
 public:
  /// All are borrowed and must outlive this.
  AttachRequests(Registry& registry, const ProcDir& proc, const Identifier& identifier,
                 const Boundary& boundary)
      : registry_(registry), proc_(proc), identifier_(identifier), boundary_(boundary) {}

  /// Attach the container of a process. @param name "": one is derived from the process
  Answer<const Container*> attach_pid(pid_t pid, std::string_view name);
  /// Attach a network namespace. If it has a path in the daemon's mount namespace, it stays until
  /// it is detached, or the path is removed and no process is left. Else it stays until it is
  /// detached or, if it had an anchor process when it was attached, until its last process exits.
  Answer<const Container*> attach_netns(UniqueFd netns, std::string_view name);

 private:
  [[nodiscard]] std::string path_of(const Netns& netns) const;

  Registry& registry_;
  const ProcDir& proc_;
  const Identifier& identifier_;
  const Boundary& boundary_;
};

}  // namespace portfwd
