// The daemon as it is installed, on a bus of its own, and its costs as the kernel counts them; and
// what waits for it: a client on the host, a listener on the bus, and portfwdctl. Owned by a
// benchmark. The daemon runs with its default configuration.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "bench/figures.h"
#include "support/private_bus.h"

struct sd_bus;
struct sd_bus_message;

namespace portfwd::bench {

struct Memory {  ///< KiB
  std::uint64_t resident = 0;
  std::uint64_t own = 0;  ///< private and dirty: not shared
  std::uint64_t anonymous = 0;
};

class Daemon {
 public:
  /// Returns when the daemon has sent READY=1.
  explicit Daemon(const testing_support::PrivateBus& bus);
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  ~Daemon();

  [[nodiscard]] Clock::duration took_to_start() const { return took_; }
  /// The daemon first, then its brokers.
  [[nodiscard]] std::vector<pid_t> processes() const;
  [[nodiscard]] Memory memory() const;  ///< of the daemon
  /// KiB, for a process whose mappings cannot be read, such as a broker. Source: proc(5), statm.
  [[nodiscard]] static std::uint64_t resident(pid_t of);
  [[nodiscard]] std::size_t descriptors() const;
  /// CPU time of all its processes so far. Source: proc(5), schedstat.
  [[nodiscard]] Clock::duration cpu_time() const;
  [[nodiscard]] std::uint64_t wakeups() const;  ///< of the daemon so far

 private:
  pid_t pid_ = -1;
  Clock::duration took_{};
};

/// What the daemon used between two moments.
class Meter {
 public:
  explicit Meter(const Daemon& daemon)
      : daemon_(daemon),
        began_(Clock::now()),
        cpu_(daemon.cpu_time()),
        wakeups_(daemon.wakeups()) {}
  [[nodiscard]] double cpu_percent() const;
  [[nodiscard]] double wakeups_per_second() const;

 private:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(Clock::now() - began_).count();
  }
  const Daemon& daemon_;
  Clock::time_point began_;
  Clock::duration cpu_;
  std::uint64_t wakeups_;
};

/// Connects to 127.0.0.1 every half millisecond until a first byte arrives.
/// @return when it arrived; ends the program after ten seconds
Clock::time_point first_byte(std::uint16_t port);
/// @return a connection that was greeted; invalid when refused
UniqueFd connect_to(std::uint16_t port);
/// Connects until the connection is refused. @return when it was
Clock::time_point refused(std::uint16_t port);

/// Receives all signals of org.portfwd1.
class BusListener {
 public:
  explicit BusListener(const testing_support::PrivateBus& bus);
  BusListener(const BusListener&) = delete;
  BusListener& operator=(const BusListener&) = delete;
  ~BusListener();

  /// Discards the signals received so far.
  void clear();
  /// @return when a signal of that name with `text` among its strings was received; waits ten
  /// seconds
  Clock::time_point wait_for(const std::string& member, const std::string& text = "");

 private:
  struct Signal {
    std::string member;
    std::vector<std::string> texts;
    Clock::time_point came;
  };
  static int on_signal(sd_bus_message* m, void* listener);
  sd_bus* bus_ = nullptr;
  std::vector<Signal> signals_;
};

/// Duration of `portfwdctl ARGUMENT` on that bus, from its start to its end; the output is
/// discarded.
Clock::duration ask_by_client(const testing_support::PrivateBus& bus,
                              std::vector<const char*> arguments);

/// Waits for this time; only benchmarks may, tests must not.
void rest(Clock::duration time);

}  // namespace portfwd::bench
