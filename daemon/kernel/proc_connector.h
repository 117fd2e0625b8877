// Process events of the kernel: which process has just called exec(2). One socket, owned by
// discovery's ExecHints. Only pids are known here, not containers.
//
// Since Linux 6.6 any user may listen; before that only root (bind gives EPERM). Outside the
// initial user and pid namespaces the kernel never sends an event, and a request's own filter
// discards the acknowledgement of the request: only the first event shows that events arrive.
// Source: drivers/connector/cn_proc.c, linux/cn_proc.h; tests/platform/proc_connector_test.cc.
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

/// Parses one datagram. @return the pid (of the thread group) that has called exec(2); nothing for
/// other events and for a datagram that is too short
[[nodiscard]] std::optional<pid_t> parse_exec_event(std::span<const std::byte> datagram);

class ProcConnector {
 public:
  /// Requests exec events only. @return EPERM before Linux 6.6, ECONNREFUSED without the connector
  [[nodiscard]] static Result<ProcConnector> open();

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

  struct Batch {
    std::vector<pid_t> execs;  ///< each once, ascending
    std::size_t events = 0;    ///< datagrams of any kind
    bool lost = false;         ///< the kernel dropped some
  };
  /// Reads at most `limit` datagrams; never blocks.
  [[nodiscard]] Batch drain(std::size_t limit);

 private:
  explicit ProcConnector(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace portfwd
