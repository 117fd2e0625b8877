// The kernel's process events: which process has just called exec. One socket; discovery's
// ExecHints owns it. It knows pids and nothing of containers.
//
// Since Linux 6.6 any user may listen, before that only root (bind gives EPERM). The kernel answers
// a request with an acknowledgement, except outside the initial user and pid namespaces, where it
// says nothing, ever. Source: drivers/connector/cn_proc.c, linux/cn_proc.h; tests/platform.
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

struct ProcEvent {
  enum class What : std::uint8_t { Acknowledged, Exec } what;
  pid_t pid = 0;  ///< of the thread group
  int error = 0;  ///< errno of the acknowledgement
};
/// One datagram. @return nothing for other events and for what is too short
[[nodiscard]] std::optional<ProcEvent> parse_proc_event(std::span<const std::byte> datagram);

class ProcConnector {
 public:
  /// Asks for exec events alone. @return EPERM before Linux 6.6, ECONNREFUSED without the facility.
  [[nodiscard]] static Result<ProcConnector> open();

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

  struct Batch {
    bool acknowledged = false;
    std::vector<pid_t> execs;  ///< each once, ascending
    std::size_t events = 0;    ///< exec events, repetitions counted
    bool lost = false;         ///< the kernel dropped some
    bool more = false;         ///< `limit` was reached
  };
  /// Takes at most `limit` datagrams; never blocks.
  [[nodiscard]] Batch drain(std::size_t limit);

 private:
  explicit ProcConnector(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace portfwd
