// Which network namespaces concern us: not the daemon's own, not its ancestors', none that belongs
// to a user namespace above ours; and which of the others may be entered. Owned by Discovery.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "discover/identity.h"
#include "kernel/netns.h"

namespace portfwd {

class Boundary {
 public:
  /// Looks at the daemon's ancestors once: those whose namespace cannot be seen do not matter,
  /// since nor can any other process in it.
  Boundary(const ProcDir& proc, const Identifier& identifier);

  /// The daemon's own or an ancestor's. @param netns its inode, or what ProcDir::net_files says
  [[nodiscard]] bool is_ours(std::uint64_t netns) const { return ours_.contains(netns); }

  struct Verdict {
    bool outside = false;        ///< of no concern: ours, or owned from above our user namespace
    uid_t owner = 0;             ///< on the host, of the user namespace that is the gate
    std::string inaccessible{};  ///< why we may not enter, remedy included; "" when we may
  };
  [[nodiscard]] Verdict judge(const Netns& netns) const;

 private:
  std::set<std::uint64_t> ours_;
};

}  // namespace portfwd
