// The daemon as it is installed, under a bus of its own, with what it costs as the kernel counts
// it; and those who wait for it: a client on the host, a listener on the bus, and portfwdctl. Owned
// by a benchmark. The daemon runs with its default configuration.
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
  std::uint64_t own = 0;  ///< private and written: nobody shares it
  std::uint64_t anonymous = 0;
};

class Daemon {
 public:
  /// Returns when it has said READY=1.
  explicit Daemon(const testing_support::PrivateBus& bus);
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  ~Daemon();

  [[nodiscard]] Clock::duration took_to_start() const { return took_; }
  /// Itself first, then its brokers.
  [[nodiscard]] std::vector<pid_t> processes() const;
  [[nodiscard]] Memory memory() const;  ///< of itself
  /// KiB, for one whose mappings are nobody's to read, such as a broker. Source: proc(5), statm.
  [[nodiscard]] static std::uint64_t resident(pid_t of);
  [[nodiscard]] std::size_t descriptors() const;
  /// CPU time of all its processes so far. Source: proc(5), schedstat.
  [[nodiscard]] Clock::duration cpu_time() const;
  [[nodiscard]] std::uint64_t wakeups() const;  ///< of itself so far

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

/// Connects to 127.0.0.1 again and again, every half millisecond, until a first byte has come.
/// @return when it came; ends the program after ten seconds
Clock::time_point first_byte(std::uint16_t port);
/// @return connected and greeted; invalid when refused
UniqueFd connect_to(std::uint16_t port);
/// The same until nobody listens there any more.
Clock::time_point refused(std::uint16_t port);

/// Everything that org.portfwd1 signals.
class BusListener {
 public:
  explicit BusListener(const testing_support::PrivateBus& bus);
  BusListener(const BusListener&) = delete;
  BusListener& operator=(const BusListener&) = delete;
  ~BusListener();

  /// Forgets what came so far.
  void clear();
  /// @return when a signal of that name came, with `text` among its strings; waits ten seconds
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

/// `portfwdctl ARGUMENT` on that bus, from its start to its end; the answer goes nowhere.
Clock::duration ask_by_client(const testing_support::PrivateBus& bus,
                              std::vector<const char*> arguments);

/// Rests so long; benchmarks do, tests never.
void rest(Clock::duration time);

}  // namespace portfwd::bench
