// What is known of one container, whoever found it. Owned by the Registry; everyone else borrows it
// between on_container_added and on_container_removed. It knows nothing of listeners or forwards.
#pragma once

#include <sys/types.h>

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

struct Container {
  std::string id;    ///< opaque, [A-Za-z0-9_-], see ContainerIds
  std::string name;  ///< what its owner calls it; shown to people, not unique
  /// "podman", "docker", "nspawn", "bubblewrap", "netns", ... or "" if unknown
  std::string engine;
  std::string engine_id;        ///< the engine's own id in full, or "" when it has none
  uid_t uid = 0;                ///< its owner on the host
  pid_t pid = 0;                ///< a process in it, as the host counts; 0: known only by its path
  std::uint64_t started = 0;    ///< that process, as ProcDir has it
  std::uint64_t netns = 0;      ///< inode of its network namespace; 0 when it cannot be seen
  std::uint64_t cgroup_id = 0;  ///< of a process in it (see cgroup_id_of); 0: it can't be known
  std::string cgroup{};  ///< the folder that all its processes are in or below; "": not known
  UniqueFd netns_fd;     ///< pins the namespace, so the inode is nobody else's; invalid if unseen
  // What its engine told, as far as it was asked and answered; printable.
  std::string image;
  std::string pod;                            ///< the name of the pod it is in
  std::string project;                        ///< compose's, and
  std::string service;                        ///< its part in that
  std::map<std::string, std::string> labels;  ///< but kMetadataLabel, which is read and not kept:
  std::shared_ptr<const devcontainer::PortMetadata> metadata;  ///< null: it has none
  std::vector<PublishedPorts> published;  ///< ports that the engine forwards itself
  bool publishes_unknown = false;         ///< it forwards some, and is being asked which

  /// Its engine is being asked for labels and ports, which may decide: its listeners wait, though
  /// not for long.
  bool undecided = false;

  std::string path;  ///< of a container that is a named namespace (`ip netns`, attach), else ""
  bool attached = false;     ///< asked for by attach
  bool recalled = false;     ///< it was there in the daemon's last life, and has the same id
  bool on_host = false;      ///< its network is the host's, so its ports are the host's already
  std::string inaccessible;  ///< why it can't be entered, remedy included; "" when it may be tried
};

/// Why a container is no longer there. Replaced: something else has taken its place, or is being
/// made to do so, such as another container of its name.
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

 protected:
  ~RegistryObserver() = default;
};

// The place where a container's labels are learned, whoever tells them.
/// Takes in what an engine told, bounded by then (engine/answers.h). What kMetadataLabel
/// says of ports is read here, once, as it may be long. @return whether anything is news
/// @param workspace what the file of its folder says, which comes over the label; may be null
bool learn_labels(Container& container, std::map<std::string, std::string> labels,
                  const devcontainer::PortMetadata* workspace = nullptr);

// One container as it was found: everything the Registry needs to take it in. Made by Discovery or
// by an attach, consumed by the Registry.
struct Sighting {
  pid_t pid = 0;  ///< the anchor; 0 for a namespace known by its path alone
  UniqueFd pidfd;
  std::optional<Netns> netns;   ///< nothing when it cannot be seen
  std::uint64_t net_files = 0;  ///< then what stands for it, as ProcDir has it; 0: nothing does
  uid_t uid = 0;
  Identity identity;
  std::string path;          ///< of a named namespace
  std::string inaccessible;  ///< as in Container
  bool publishes = false;    ///< its engine's port forwarder sits in its namespace
  bool on_host = false;      ///< its namespace is the host's
  bool attached = false;     ///< a person asked for it
  bool named = false;        ///< a person gave identity.name
  bool kept = false;         ///< nothing but the person's wish may hold it
};

/// A process held by pidfd, then its namespace, then a look whether it still lives: so that both
/// belong together, whoever gets the pid next.
struct Held {
  UniqueFd pidfd;
  Netns netns;
};
/// @return ESRCH when the process is gone or exits meanwhile, EACCES when it is another user's.
[[nodiscard]] Result<Held> hold(const ProcDir& proc, pid_t pid);

}  // namespace portfwd
