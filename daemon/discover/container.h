// One container, the form in which it is discovered, and the observer interface of the Registry,
// which owns every Container. An observer borrows a Container from on_container_added to the return
// of on_container_removed. A Container has no knowledge of listeners or forwards.
//
// A network namespace is *visible* when the daemon may open it (/proc/PID/ns/net). It is not for a
// process of another user; such a container is listed with the reason.
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

/// Identifies a container among those that exist at the same time.
struct ContainerKey {
  /// Inode of its network namespace; ProcDir::net_files() if that is not visible; 0: neither.
  std::uint64_t netns = 0;
  std::string engine_id;  ///< "" if it has none or while it is unknown
  friend auto operator<=>(const ContainerKey&, const ContainerKey&) = default;
};

struct Container {
  std::string id;    ///< opaque, [A-Za-z0-9_-], see ContainerIds
  std::string name;  ///< for display; not unique
  /// "podman", "docker", "nspawn", "bubblewrap", "netns", ... or "" if unknown
  std::string engine;
  std::string engine_id;        ///< full id given by the engine; "" if it has none
  uid_t uid = 0;                ///< its owner on the host
  pid_t pid = 0;                ///< of a process in it, on the host; 0: none is known
  std::uint64_t started = 0;    ///< start time of that process, see procfs::Stat
  std::uint64_t netns = 0;      ///< inode of its network namespace; 0: not visible
  std::uint64_t cgroup_id = 0;  ///< of a process in it (see cgroup_id_of); 0: unknown
  std::string cgroup{};         ///< cgroup folder that contains all its processes; "": unknown
  UniqueFd netns_fd;  ///< pins the namespace, so that its inode is not reused; invalid: not visible
  // From its engine, once it has answered; printable.
  std::string image;
  std::string pod;                            ///< name of its pod
  std::string project;                        ///< compose project
  std::string service;                        ///< compose service
  std::map<std::string, std::string> labels;  ///< without kMetadataLabel, see `metadata`
  std::shared_ptr<const devcontainer::PortMetadata> metadata;  ///< null: it has none
  std::vector<PublishedPorts> published;  ///< ports that the engine itself forwards
  bool publishes_unknown = false;         ///< it publishes ports, which ones is not yet known

  /// Its labels and published ports, which may decide what is forwarded, are being requested from
  /// the engine. Its listeners are held back meanwhile, at most for EngineFacts::kLongestWait.
  bool undecided = false;

  std::string path;          ///< mount point of a named namespace (`ip netns`, attach), else ""
  bool attached = false;     ///< by request
  bool recalled = false;     ///< it existed before the daemon was restarted and has kept its id
  bool on_host = false;      ///< it shares the host's network, so its ports are the host's
  std::string inaccessible;  ///< why it cannot be entered, with the remedy; "": it can be tried
};

/// Why a container was removed. Replaced: another container, such as a new one of the same name,
/// has taken its place or is about to.
enum class RemovalReason : std::uint8_t { Gone, Detached, Replaced };

class RegistryObserver {
 public:
  virtual void on_container_added(const Container& container) = 0;
  /// Any member except the id and the namespace may have changed.
  virtual void on_container_changed(const Container& container) = 0;
  /// The container must not be used after the return. A detached one may be added again later, with
  /// a new id.
  virtual void on_container_removed(const Container& container, RemovalReason reason) = 0;
  /// A program was started in the container, so a listener may follow soon.
  virtual void on_sign_of_life(const Container& container) = 0;
  /// The engine's id became known, and the observers have not been notified yet. The observer may
  /// fill in what is known without waiting. It must not call the Registry.
  virtual void on_engine_known(ContainerEntry& /*entry*/) {}

 protected:
  ~RegistryObserver() = default;
};

/// What the Registry needs to add a container. Made by ContainerInspector, AttachRequests and
/// EngineFacts; consumed by the Registry.
struct DiscoveredContainer {
  pid_t pid = 0;                ///< of its anchor process; 0: none
  UniqueFd pidfd;               ///< of the anchor process
  std::optional<Netns> netns;   ///< nothing if it is not visible
  std::uint64_t net_files = 0;  ///< replaces `netns` in the key then; see ContainerKey::netns
  uid_t uid = 0;
  Identity identity;
  std::string path;              ///< of a named namespace
  std::string inaccessible;      ///< as in Container
  bool publishes = false;        ///< its engine's port forwarder runs in its namespace
  bool on_host = false;          ///< its namespace is the host's
  bool attached = false;         ///< by request
  bool named_by_user = false;    ///< identity.name is from the request
  bool held_by_request = false;  ///< it stays without process or path until it is detached
};

}  // namespace portfwd
