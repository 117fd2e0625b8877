// The kernel's process events: which process has just called exec. One socket; discovery's
// ExecHints owns it. It knows pids and nothing of containers.
//
// Since Linux 6.6 any user may listen, before that only root (bind gives EPERM). Outside the
// initial user and pid namespaces the kernel says nothing, ever, and the acknowledgement of a
// request falls victim to the request's own filter: that events come is known from the first one
// alone. Source: drivers/connector/cn_proc.c, linux/cn_proc.h;
// tests/platform/proc_connector_test.cc.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace portfwd {

/// @return the pid (of the thread group) that one datagram says has called exec; nothing for other
/// events and for what is too short
[[nodiscard]] std::optional<pid_t> parse_exec_event(std::span<const std::byte> datagram);

class ProcConnector {
 public:
  /// Asks for exec events alone. @return EPERM before Linux 6.6, ECONNREFUSED without the facility.
  [[nodiscard]] static Result<ProcConnector> open();

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

  struct Batch {
    std::vector<pid_t> execs;  ///< each once, ascending
    std::size_t events = 0;    ///< datagrams, of whatever kind
    bool lost = false;         ///< the kernel dropped some
  };
  /// Takes at most `limit` datagrams; never blocks.
  [[nodiscard]] Batch drain(std::size_t limit);

 private:
  explicit ProcConnector(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace portfwd
