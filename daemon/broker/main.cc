// portfwd-broker: a program that makes sockets inside a container's namespaces and passes them to
// the daemon. There is one process for each user namespace, started by the daemon, which holds the
// other end of kSocketFd; or one for a network namespace, started there by an engine with a
// socket's path as its argument, from which it gets its end. With --reader or --writer it does for
// the daemon what may block (serve.h). It exits when the daemon closes its end. It is static and
// without dependencies, because the same file also runs inside containers. It shares protocol.h and
// unique_fd.h with the daemon.
#include <sys/prctl.h>
#include <unistd.h>

#include <string_view>

#include "broker/channel.h"
#include "broker/protocol.h"
#include "broker/serve.h"

namespace portfwd::broker {

namespace {

/// Answers requests up to the first Join; those before it are rejected.
/// @return false when the daemon has closed its end or the join failed
bool wait_for_join(const Channel& channel, Joined& joined) {
  Message message;
  while (channel.next(message)) {
    const Request& request = message.request;
    const bool is_join = request.op == Op::Join;
    const Outcome outcome =
        is_join ? join(request, std::move(message.passed), joined) : Outcome{EPROTO, Step::Request};
    if (!channel.answer(request.id, outcome, FdBatch())) return false;
    if (is_join) return outcome.ok();
  }
  return false;
}

/// @param path the argument: the daemon's socket, kReaderArgument or kWriterArgument; null when the
/// end of the pair is kSocketFd
int run(const char* path) {
  // Root of a container that shares the daemon's pid namespace may have the same uid, and must not
  // be able to trace this process.
  if (::prctl(PR_SET_DUMPABLE, 0) != 0 || ::chdir("/") != 0) return 1;
  if (path != nullptr && std::string_view(path) == kReaderArgument) {
    const UniqueFd end(kSocketFd);
    return read_for_daemon(end.get());
  }
  if (path != nullptr && std::string_view(path) == kWriterArgument) {
    const UniqueFd end(kSocketFd);
    return write_for_daemon(end.get());
  }
  const UniqueFd end = path != nullptr ? fetch_channel(path) : UniqueFd(kSocketFd);
  const Channel channel(end.get());
  Joined joined;
  if (!wait_for_join(channel, joined)) return 1;
  serve(channel, joined);
  return 0;
}

}  // namespace

}  // namespace portfwd::broker

int main(int argc, char** argv) {
  return portfwd::broker::run(argc > 1 ? argv[1] : nullptr);
}
