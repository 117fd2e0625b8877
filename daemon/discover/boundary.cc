// See boundary.h.
#include "discover/boundary.h"

#include <fmt/format.h>

namespace portfwd {

Boundary::Boundary(const ProcDir& proc, const Identifier& identifier) {
  for (const pid_t pid : identifier.lineage()) {
    if (const auto inode = proc.netns(pid)) ours_.insert(*inode);
    if (const auto files = proc.net_files(pid)) ours_.insert(*files);
  }
}

Boundary::Verdict Boundary::judge(const Netns& netns) const {
  if (is_ours(netns.inode())) return {.outside = true};
  const auto gate = gate_of(netns.fd());
  if (!gate) return {.outside = true};
  if (gate->open) return {.owner = gate->owner};
  if (!gate->userns.valid()) {  // such as one made by `ip netns`: uid 0 of our own user namespace
    return {.owner = 0,
            .inaccessible =
                "the namespace belongs to root: run portfwd as root, or make it in a "
                "user namespace of your own (podman, bwrap, unshare -Urn)"};
  }
  return {.owner = gate->owner,
          .inaccessible = fmt::format("the namespace belongs to uid {}: run portfwd as that user "
                                      "or as root",
                                      gate->owner)};
}

}  // namespace portfwd
