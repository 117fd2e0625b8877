// portfwd-relay: a program that relays the Unix sockets of one container. A peer can make any
// process wait that reads, splices or closes a Unix socket: it attaches a descriptor whose close(2)
// waits. So the daemon, which serves all containers, hands such connections to this process, which
// it starts with the other end of kSocketFd, never waits for, and kills when it does not answer. It
// exits when the daemon closes its end. It is static, and built of the daemon's own sources.
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>

#include "event/event_loop.h"
#include "relay/relay_context.h"
#include "relay_process/protocol.h"
#include "relay_process/sandbox.h"
#include "relay_process/server.h"

namespace portfwd::relay_process {

namespace {

/// Each relay needs two descriptors, and pipes while it moves much.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

int run() {
  // A container's root may have the same uid, and must not be able to trace this process.
  if (::prctl(PR_SET_DUMPABLE, 0) != 0 || ::chdir("/") != 0) return 1;
  (void)::signal(SIGPIPE, SIG_IGN);  // splice(2) raises it
  raise_descriptor_limit();
  const SystemClock clock;
  EventLoop loop(clock);
  RelayContext context(loop);
  Server server(context, UniqueFd(kSocketFd));
  if (!loop.status() || !server.start() || !enter_sandbox()) return 1;
  (void)loop.run();
  server.reset_all();
  ::_exit(0);
}

}  // namespace

}  // namespace portfwd::relay_process

int main() {
  return portfwd::relay_process::run();
}
