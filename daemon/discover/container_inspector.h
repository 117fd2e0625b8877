// What a process or a network namespace shows of the container that it belongs to: whether that
// concerns this daemon, whether it can be entered, and what it is called. It reads /proc and
// describes; the Registry takes the description in.
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

/// A process and its network namespace. Both belong together, whichever process gets the pid next:
/// the process was still alive after its namespace had been opened.
struct PinnedProcess {
  UniqueFd pidfd;
  Netns netns;
};
/// @return ESRCH when the process is gone or exits meanwhile, EACCES when it is another user's
[[nodiscard]] Result<PinnedProcess> pin_process(const ProcDir& proc, pid_t pid);

// Network namespaces that could not be seen or entered at the first look. While a runtime prepares
// a container its namespace cannot be, though the container will be ours: so it is believed only
// after a second look. Owned by the ContainerInspector.
class UnseenNamespaces {
 public:
  /// @param table borrowed; its processes in such namespaces are looked at again
  /// @param on_second_look called after that
  UnseenNamespaces(EventLoop& loop, ProcessTable& table,
                   std::move_only_function<void()> on_second_look);

  /// Whether the first look was long enough ago. The first call for a namespace is its first look.
  [[nodiscard]] bool confirm(std::uint64_t netns);
  /// It was seen, or its container is known now.
  void forget(std::uint64_t netns) { first_look_.erase(netns); }

 private:
  void look_again();

  EventLoop& loop_;
  ProcessTable& table_;
  std::move_only_function<void()> on_second_look_;
  std::map<std::uint64_t, TimePoint> first_look_;
  Timer second_look_;
};

// Describes containers that Discovery comes across. Owned by Discovery.
class ContainerInspector {
 public:
  using Process = ProcessTable::Process;
  struct Parts {  ///< all borrowed; they outlive this
    EventLoop& loop;
    const ProcDir& proc;
    ProcessFactsCache& facts;
    const Identifier& identifier;
    const Boundary& boundary;
    ProcessTable& table;
    const MountWatch& mounts;
  };
  /// @param netns_folder where `ip netns` mounts its namespaces
  /// @param on_second_look what could not be described may be by now
  ContainerInspector(const Parts& parts, std::string netns_folder,
                     std::move_only_function<void()> on_second_look);

  /// Holds the process by pidfd. @param netns as in ContainerKey
  /// @return its pid, owner and namespace; nothing when it is gone or in another namespace now
  [[nodiscard]] std::optional<DiscoveredContainer> pin(const Process& process, std::uint64_t netns);
  /// Completes what pin() returned. @return false when the container is of no concern, or cannot be
  /// judged before a second look
  [[nodiscard]] bool describe(DiscoveredContainer& found, const Process& process,
                              const ContainerKey& key);
  /// A namespace that `ip netns add NAME` made is a container without any process. An engine's own
  /// mounts wait for their processes. @return nothing when it is not one, or of no concern
  [[nodiscard]] std::optional<DiscoveredContainer> describe_named(std::uint64_t netns,
                                                                  const std::string& path);

  /// A named namespace bears its name, unless an engine made it.
  [[nodiscard]] Identity identity_of(pid_t pid, std::uint64_t netns) const;
  /// Whether it is a process that serves the engine; such a process is no container's anchor.
  [[nodiscard]] bool is_plumbing(pid_t pid) const;

  /// Whether that namespace was found to be of no concern.
  [[nodiscard]] bool is_outside(std::uint64_t netns) const { return outside_.contains(netns); }
  /// Every namespace is judged again: their numbers are reused.
  void forget_outside() { outside_.clear(); }
  /// Whether a process could not be held since the last call because descriptors are short.
  [[nodiscard]] bool take_shortage() { return std::exchange(short_of_descriptors_, false); }

 private:
  [[nodiscard]] bool describe_on_host(DiscoveredContainer& found) const;
  [[nodiscard]] bool describe_unseen(DiscoveredContainer& found, const ContainerKey& key);
  [[nodiscard]] bool describe_seen(DiscoveredContainer& found, const ContainerKey& key);
  /// Whether it stays so that the namespace cannot be seen or entered.
  [[nodiscard]] bool is_lasting(pid_t pid, std::uint64_t netns);
  [[nodiscard]] bool is_rootlessport(pid_t pid) const;

  const ProcDir& proc_;
  ProcessFactsCache& facts_;
  const Identifier& identifier_;
  const Boundary& boundary_;
  ProcessTable& table_;
  const MountWatch& mounts_;
  const std::string netns_folder_;
  UnseenNamespaces unseen_;
  std::set<std::uint64_t> outside_;  ///< namespaces of no concern
  bool short_of_descriptors_ = false;
};

// Requests to attach a container by hand. Each refusal names the remedy. Owned by main.
class AttachRequests {
 public:
  /// All are borrowed and outlive this.
  AttachRequests(Registry& registry, const ProcDir& proc, const Identifier& identifier,
                 const Boundary& boundary)
      : registry_(registry), proc_(proc), identifier_(identifier), boundary_(boundary) {}

  /// @param name "" for one of our making
  Answer<const Container*> attach_pid(pid_t pid, std::string_view name);
  /// With a path in our mount namespace it lasts until it is detached or the path is gone; else
  /// until it is detached or, if processes were in it, until the last of them has exited.
  Answer<const Container*> attach_netns(UniqueFd netns, std::string_view name);

 private:
  [[nodiscard]] std::string path_of(const Netns& netns) const;

  Registry& registry_;
  const ProcDir& proc_;
  const Identifier& identifier_;
  const Boundary& boundary_;
};

}  // namespace portfwd
