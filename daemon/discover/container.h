// One container: what is known of it, how it was found, and its observers. A Container is
// owned by the Registry; everyone else borrows it between on_container_added and
// on_container_removed. It knows nothing of listeners or forwards.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "discover/identity.h"
#include "engine/answers.h"
#include "kernel/netns.h"

namespace portfwd {

namespace devcontainer {
struct PortMetadata;
}
class ContainerEntry;

/// Identifies a container among those that exist at one time.
struct ContainerKey {
  /// Inode of its network namespace; ProcDir::net_files() where that cannot be seen; 0: neither.
  std::uint64_t netns = 0;
  std::string engine_id;  ///< "" when it has none, or while it is not known
  friend auto operator<=>(const ContainerKey&, const ContainerKey&) = default;
};

struct Container {
  std::string id;    ///< opaque, [A-Za-z0-9_-], see ContainerIds
  std::string name;  ///< what its owner calls it; for display, not unique
  /// "podman", "docker", "nspawn", "bubblewrap", "netns", ... or "" if unknown
  std::string engine;
  std::string engine_id;        ///< the engine's own id in full, or "" when it has none
  uid_t uid = 0;                ///< its owner on the host
  pid_t pid = 0;                ///< of a process in it, on the host; 0: known only by its path
  std::uint64_t started = 0;    ///< of that process, as ProcDir has it
  std::uint64_t netns = 0;      ///< inode of its network namespace; 0 when it cannot be seen
  std::uint64_t cgroup_id = 0;  ///< of a process in it (see cgroup_id_of); 0: unknown
  std::string cgroup{};         ///< the folder in or below which all its processes are; "": unknown
  UniqueFd netns_fd;  ///< pins the namespace, so that its inode is not reused; invalid if unseen
  // From its engine, once it has answered; printable.
  std::string image;
  std::string pod;                            ///< name of its pod
  std::string project;                        ///< of compose
  std::string service;                        ///< of compose
  std::map<std::string, std::string> labels;  ///< without kMetadataLabel, which `metadata` holds
  std::shared_ptr<const devcontainer::PortMetadata> metadata;  ///< null: it has none
  std::vector<PublishedPorts> published;  ///< ports that the engine itself forwards
  bool publishes_unknown = false;         ///< it publishes ports; the engine is being asked which

  /// The engine is being asked for labels and ports, which may decide what is forwarded: its
  /// listeners wait for a limited time (EngineFacts::kLongestWait).
  bool undecided = false;

  std::string path;          ///< of a named namespace (`ip netns`, attach), else ""
  bool attached = false;     ///< by request
  bool recalled = false;     ///< it was there in the daemon's last life, and has the same id
  bool on_host = false;      ///< it shares the host's network, so its ports are the host's
  std::string inaccessible;  ///< why it cannot be entered, with the remedy; "" when it may be tried
};

/// Why a container was removed. Replaced: another one has taken its place, or is about to, such as
/// a new container of the same name.
enum class RemovalReason : std::uint8_t { Gone, Detached, Replaced };

class RegistryObserver {
 public:
  virtual void on_container_added(const Container& container) = 0;
  /// Anything but the id and the namespace changed.
  virtual void on_container_changed(const Container& container) = 0;
  /// The last call for this container; it is freed after the return.
  virtual void on_container_removed(const Container& container, RemovalReason reason) = 0;
  /// A program was started inside: its listener may follow soon.
  virtual void on_sign_of_life(const Container& container) = 0;
  /// The engine and its id became known, and no observer has been notified of that yet: what can be
  /// known without waiting may be filled in. It must not call the Registry.
  virtual void on_engine_known(ContainerEntry& /*entry*/) {}

 protected:
  ~RegistryObserver() = default;
};

/// A container as it was found: what the Registry needs to add it. Made by the ContainerInspector
/// or for a request to attach, consumed by the Registry.
struct DiscoveredContainer {
  pid_t pid = 0;                ///< its anchor; 0 for a namespace known by its path alone
  UniqueFd pidfd;               ///< of the anchor
  std::optional<Netns> netns;   ///< nothing when it cannot be seen
  std::uint64_t net_files = 0;  ///< stands for `netns` then; see ContainerKey::netns
  uid_t uid = 0;
  Identity identity;
  std::string path;              ///< of a named namespace
  std::string inaccessible;      ///< as in Container
  bool publishes = false;        ///< its engine's port forwarder is in its namespace
  bool on_host = false;          ///< its namespace is the host's
  bool attached = false;         ///< by request
  bool named_by_user = false;    ///< identity.name comes with the request
  bool held_by_request = false;  ///< it stays without process or path until it is detached
};

}  // namespace portfwd
