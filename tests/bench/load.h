// Loads for a relay: a server for all of them, and clients that measure. A header on each
// connection names its load, so that one forwarded port carries all loads and every relay carries
// the same bytes. Owned by a benchmark's main. Relays are not known here.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>

#include "bench/figures.h"
#include "bench/place.h"

namespace portfwd::bench {

enum class LoadKind : std::uint32_t { Up, Down, Echo, ConnectEcho };

struct Load {
  std::string_view name;
  LoadKind kind;
  std::uint32_t connections;  ///< at a time
  std::uint32_t size = 1;     ///< bytes of a message; ignored by bulk loads
  bool timed = false;         ///< each answer is timed, which costs a little

  [[nodiscard]] bool is_bulk() const { return kind == LoadKind::Up || kind == LoadKind::Down; }
};

/// The nine loads whose geometric mean stands for a relay.
inline constexpr std::array kLoads{
    Load{"up, 1 stream", LoadKind::Up, 1},
    Load{"down, 1 stream", LoadKind::Down, 1},
    Load{"up, 8 streams", LoadKind::Up, 8},
    Load{"down, 8 streams", LoadKind::Down, 8},
    Load{"request/response, 1 connection", LoadKind::Echo, 1},
    Load{"64 connections x 64 B", LoadKind::Echo, 64, 64},
    Load{"1000 connections x 1 KiB", LoadKind::Echo, 1000, 1024},
    Load{"connect-request-response-close, 1 at a time", LoadKind::ConnectEcho, 1},
    Load{"connect-request-response-close, 16 at a time", LoadKind::ConnectEcho, 16},
};

struct LoadResult {
  double rate = 0;      ///< bytes a second of bulk loads, else operations a second; 0: it failed
  double count = 0;     ///< bytes or operations in all, including the warm-up
  double fairness = 1;  ///< slowest over fastest stream
  double p99 = 0;       ///< ms from a request to its answer, if `timed`
};

/// Does not return. @param listener non-blocking
[[noreturn]] void serve_loads(UniqueFd listener);

/// A container whose one process serves loads on `port` of all its IPv4 addresses while this object
/// lives.
class LoadContainer {
 public:
  explicit LoadContainer(std::uint16_t port);
  LoadContainer(const LoadContainer&) = delete;
  LoadContainer& operator=(const LoadContainer&) = delete;
  ~LoadContainer();
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

/// Runs a load in the caller's network namespace.
LoadResult run_load(const Load& load, const Place& place, std::chrono::milliseconds duration);
inline LoadResult run_load(const Load& load, std::uint16_t port,
                           std::chrono::milliseconds duration) {
  return run_load(load, Place{.port = port}, duration);
}
/// A connection that was used once and is idle; invalid when it cannot be made.
[[nodiscard]] UniqueFd idle_connection(const Place& place);

}  // namespace portfwd::bench
