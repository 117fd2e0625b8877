#include "broker/join.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/stat.h>

#include "broker/sandbox.h"

namespace portfwd::broker {

namespace {

constexpr Capabilities bit(int capability) {
  return Capabilities{1} << capability;
}

/// setns() into network namespaces, ports below 1024, owners of Unix sockets.
constexpr Capabilities kNeeded = bit(CAP_SYS_ADMIN) | bit(CAP_NET_BIND_SERVICE) | bit(CAP_CHOWN);

/// Fact: UserNamespace.OnceJoinedThereIsNoWayBack. An empty namespace is owned by the user
/// namespace just joined, so setns() back to it is allowed; back to the daemon's own it would not
/// be.
Outcome make_home(UniqueFd& home) {
  if (::unshare(CLONE_NEWNET) != 0) return failed(Step::MakeHome);
  home = UniqueFd(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  return home.valid() ? Outcome() : failed(Step::MakeHome);
}

}  // namespace

Outcome join(const Request& request, UniqueFd userns, UniqueFd& home) {
  if (userns.valid() && ::setns(userns.get(), CLONE_NEWUSER) != 0) return failed(Step::JoinUser);
  const bool private_home = request.home == Home::Private;
  if (private_home) {
    if (const Outcome made = make_home(home); !made.ok()) return made;
  }
  ::umask(0);  // UnixListen gives the mode exactly
  if (const auto dropped = drop_capabilities(private_home ? kNeeded : 0); !dropped.ok()) {
    return dropped;
  }
  return filter_system_calls();
}

}  // namespace portfwd::broker
