// One container as it was found: everything the Registry needs to take it in. Made by Discovery or
// by an attach, consumed by the Registry.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/unique_fd.h"
#include "discover/identity.h"
#include "kernel/netns.h"

namespace portfwd {

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
