// Fixture of the stall tests. A harmless container has a forward, and three processes use the
// daemon for as long as a test lasts: one echoes over one connection, one makes a connection for
// each echo, one requests the status of the manager over D-Bus. The test does to the daemon what a
// hostile container, image, engine, user or file could do, and at the end none of the three may
// have waited too long or lost anything.
//
// A machine can stall as well. A fourth process, the control, does the same with a server outside
// of the daemon. Its waiting time is added to the bounds, and a run in which the machine made the
// control wait is repeated, at most twice.
#pragma once

#include <sys/resource.h>

#include <fstream>
#include <functional>
#include <list>

#include "build_paths.h"
#include "stall/other_user.h"
#include "stall/probe.h"
#include "support/system_fixture.h"

namespace portfwd::testing_support {

using namespace std::chrono_literals;

class StallTest : public SystemTest {
 protected:
  static constexpr double kMostP99 = 50;         ///< milliseconds
  static constexpr double kMostWorst = 250;      ///< milliseconds
  static constexpr double kMachineStalls = 100;  ///< milliseconds of waiting of the control
  static constexpr double kMachineIsBusy = 20;   ///< percent of the time without a CPU
  static constexpr Port kCalm = 8081;
  static constexpr Port kDirect = 18082;

  StallTest() {
    ::setenv("CONTAINER_HOST", ("unix://" + engine_socket()).c_str(), 1);
    ::unsetenv("DOCKER_HOST");
  }

  [[nodiscard]] std::string engine_socket() const { return file("engine.sock"); }

  /// Path of the daemon of this build, or of the one in PORTFWD_STALL_DAEMON, for comparison.
  static std::string daemon_path() {
    const char* other = std::getenv("PORTFWD_STALL_DAEMON");
    return other != nullptr ? other : PORTFWD_PATH;
  }

  void start_daemon() {
    start({daemon_path()});
    ASSERT_FALSE(HasFatalFailure());
    if (direct_.open(kDirect) != 0 && !direct_is_open_) ADD_FAILURE() << "no port for the control";
    direct_is_open_ = true;
    ASSERT_TRUE(calm_.open(kCalm) == 0 || calm_is_open_);
    calm_is_open_ = true;
    ASSERT_TRUE(wait_for_added(kCalm));
  }
  /// Opens the listener that the probes use, before the daemon starts, which then forwards it
  /// before it is ready.
  void open_calm() {
    ASSERT_EQ(calm_.open(kCalm), 0);
    calm_is_open_ = true;
  }
  /// Adds a probe to later runs, which sends datagrams through the forward of the harmless
  /// container. The daemon must be configured to watch UDP.
  void probe_datagrams() {
    ASSERT_EQ(calm_.open_datagrams({kV4, kCalm}), 0);
    const Probe::Round answered = datagram_round(kCalm);
    ASSERT_TRUE(until([&] { return answered(); }));
    with_datagrams_ = true;
  }

  /// Runs `hostile` beside the probes, and asserts that they did not notice it. It may run more
  /// than once, and must leave nothing behind for its next run.
  void expect_no_stall_beside(const std::function<void()>& hostile) {
    if (!daemon_) start_daemon();
    if (HasFatalFailure()) return;
    for (int run = 1;; ++run) {
      start_probes();
      for (const auto& probe : probes_) wait_for_rounds(*probe, 20, 10s);
      for (const auto& probe : probes_) probe->begin_window();
      const TimePoint began = loop_.now();
      const Scheduling before = scheduling();
      hostile();
      report(before, loop_.now() - began);
      const auto [calm, machine_stalled] = report();
      probes_.clear();
      if (calm || HasFatalFailure()) break;
      if (!machine_stalled || run == 3) {
        ADD_FAILURE() << "allowed: p99 " << kMostP99 << " ms, worst " << kMostWorst
                      << " ms and what the control waited, nothing lost";
        break;
      }
      std::printf("  the machine has other work: once more\n");
    }
    EXPECT_FALSE(daemon_->ended()) << "status " << daemon_->status();
    if (!HasFailure()) {
      EXPECT_EQ(greeting({kV4, kCalm}), std::to_string(kCalm) + " here\n");
    }
  }

  /// Lets the daemon run until the control has made the rounds of this time.
  void go_on_for(std::chrono::milliseconds time) {
    const Behind behind;
    const Probe& control = *probes_.back();
    wait_for_rounds(control, control.rounds() + static_cast<int>(time / kEchoInterval), 60s);
  }

 private:
  /// The test receives everything that the daemon logs and emits, which takes more CPU time than
  /// the daemon's work. So it has a low priority while it only waits. Fact: main.cc permits it to
  /// raise the priority again.
  struct Behind {
    Behind() { ::setpriority(PRIO_PROCESS, 0, 10); }
    Behind(const Behind&) = delete;
    Behind& operator=(const Behind&) = delete;
    ~Behind() { ::setpriority(PRIO_PROCESS, 0, kNice); }
  };

  static constexpr std::chrono::microseconds kEchoInterval = 4ms;
  static constexpr std::chrono::microseconds kCallInterval = 20ms;

  /// Source: proc(5), /proc/PID/schedstat.
  struct Scheduling {
    std::int64_t ran = 0;     ///< nanoseconds on a CPU
    std::int64_t waited = 0;  ///< nanoseconds ready to run, without a CPU
  };
  [[nodiscard]] Scheduling scheduling() const {
    Scheduling out;
    std::ifstream("/proc/" + std::to_string(daemon_->pid()) + "/schedstat") >> out.ran >>
        out.waited;
    return out;
  }
  void report(const Scheduling& before, Duration window) {
    const Scheduling after = scheduling();
    const auto share = [&](std::int64_t nanoseconds) {
      return 100.0 * static_cast<double>(nanoseconds) /
             static_cast<double>(std::chrono::nanoseconds(window).count());
    };
    waited_ = share(after.waited - before.waited);
    std::printf("  daemon     ran %.1f %% of %.1f s, waited for a CPU %.1f %%\n",
                share(after.ran - before.ran), std::chrono::duration<double>(window).count(),
                waited_);
  }

  void start_probes() {
    probes_.clear();
    add_probe("echo", kEchoInterval, [] { return echo_round(kCalm); });
    add_probe("connection", kCallInterval, [] { return connection_round(kCalm); });
    const std::string address = bus_.address();
    add_probe("D-Bus", kCallInterval, [address] { return bus_round(address); });
    if (with_datagrams_) add_probe("datagram", kEchoInterval, [] { return datagram_round(kCalm); });
    add_probe("control", kEchoInterval, [] {
      return [echo = echo_round(kDirect), connect = connection_round(kDirect), n = 0]() mutable {
        return ++n % 5 == 0 ? connect() : echo();
      };
    });
  }
  void add_probe(const char* name, std::chrono::microseconds interval,
                 const std::function<Probe::Round()>& make) {
    probes_.push_back(std::make_unique<Probe>(name, interval, make));
  }

  void wait_for_rounds(const Probe& probe, int rounds, std::chrono::seconds most) {
    const TimePoint deadline = loop_.now() + most;
    while (probe.rounds() < rounds && !daemon_->ended() && loop_.now() < deadline) {
      if (!loop_.turn(20ms)) return;
    }
  }

  /// @return whether the bounds hold, and whether the machine may be the reason if not
  std::pair<bool, bool> report() {
    std::vector<Latencies> windows;  // all at the same time, as the machine may stall now
    for (const auto& probe : probes_) windows.push_back(probe->window());
    const Latencies& control = windows.back();
    bool calm = true;
    auto seen = windows.begin();
    for (const auto& probe : probes_) {
      std::printf("  %-10s %6zu rounds, p50 %7.2f, p99 %8.2f, worst %8.2f ms, %d lost\n",
                  probe->name().c_str(), seen->ms.size(), seen->median(), seen->p99(),
                  seen->worst(), seen->lost);
      calm = calm && seen->lost == 0 && !seen->ms.empty() &&
             seen->p99() <= kMostP99 + control.p99() &&
             seen->worst() <= kMostWorst + control.worst();
      ++seen;
    }
    return {calm, control.worst() > kMachineStalls || waited_ > kMachineIsBusy};
  }

  // ---- rounds, in the processes of the probes

  static UniqueFd connect_blocking(Port port) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval limit{30, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    const SockAddr address = to_sockaddr({kV4, port});
    if (::connect(fd.get(), address.get(), address.length) != 0) fd.reset();
    return fd;
  }
  /// Reads `size` bytes.
  /// @return fewer at the end of stream, or when the server does not answer
  static std::string read_exactly(const UniqueFd& fd, std::size_t size) {
    std::string text(size, '\0');
    const ssize_t got = ::recv(fd.get(), text.data(), size, MSG_WAITALL);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    return text;
  }
  static std::string greeting_of(Port port) { return std::to_string(port) + " here\n"; }

  static bool echo_once(const UniqueFd& fd, int number) {
    const std::string line = "echo " + std::to_string(number) + "\n";
    if (::send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL) < 0) return false;
    return read_exactly(fd, line.size()) == line;
  }

  static Probe::Round echo_round(Port port) {
    auto fd = std::make_shared<UniqueFd>(connect_blocking(port));
    read_exactly(*fd, greeting_of(port).size());
    return [fd, number = 0]() mutable { return echo_once(*fd, ++number); };
  }
  static Probe::Round connection_round(Port port) {
    return [port, number = 0]() mutable {
      const UniqueFd fd = connect_blocking(port);
      if (!fd.valid()) return false;
      return read_exactly(fd, greeting_of(port).size()) == greeting_of(port) &&
             echo_once(fd, ++number);
    };
  }
  /// A round with one datagram, which is not sent again.
  static Probe::Round datagram_round(Port port) {
    auto fd = std::make_shared<UniqueFd>(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const timeval limit{1, 0};
    ::setsockopt(fd->get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    const SockAddr address = to_sockaddr({kV4, port});
    ::connect(fd->get(), address.get(), address.length);
    return [fd, number = 0]() mutable {
      const int sent = ++number;
      if (::send(fd->get(), &sent, sizeof sent, MSG_NOSIGNAL) != sizeof sent) return false;
      int back = 0;
      while (::recv(fd->get(), &back, sizeof back, 0) == sizeof back) {
        if (back == sent) return true;
      }
      return false;
    };
  }
  static Probe::Round bus_round(const std::string& address) {
    sd_bus* bus = nullptr;
    ::sd_bus_new(&bus);
    ::sd_bus_set_address(bus, address.c_str());
    ::sd_bus_set_bus_client(bus, 1);
    ::sd_bus_set_method_call_timeout(bus, 30'000'000);
    ::sd_bus_start(bus);
    return [bus] {
      return ::sd_bus_call_method(bus, "org.portfwd1", "/org/portfwd1", "org.portfwd1.Manager",
                                  "GetStatus", nullptr, nullptr, "") >= 0;
    };
  }

  Box calm_;
  Box direct_ = Box::on_host();
  double waited_ = 0;  ///< percent of the last window without a CPU
  bool calm_is_open_ = false;
  bool direct_is_open_ = false;
  bool with_datagrams_ = false;
  std::list<std::unique_ptr<Probe>> probes_;  ///< the control is the last
};

}  // namespace portfwd::testing_support
