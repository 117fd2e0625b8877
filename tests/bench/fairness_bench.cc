// Effect of a busy forward on others: what a bulk stream adds to the answers of 64 connections
// beside it, compared with what a process that only computes adds to direct ones; and what many
// connections at once do to another forward, to D-Bus and to detection. Parts: bulk storm.
#include <fmt/core.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <csignal>

#include "bench/container.h"
#include "bench/daemon.h"
#include "bench/load.h"
#include "bench/relays.h"

namespace portfwd::bench {
namespace {

using namespace std::chrono_literals;
constexpr std::uint16_t kBusy = 27'100;
constexpr std::uint16_t kOther = 27'200;
constexpr std::uint16_t kNew = 27'300;
constexpr auto kVeryLong = 600s;

constexpr Load kSixtyFour{"64 connections", LoadKind::Echo, 64, 64, true};
constexpr Load kOne{"1 connection", LoadKind::Echo, 1, 64, true};
constexpr Load kBulk{"a bulk stream", LoadKind::Down, 1};
constexpr Load kStorm{"a storm", LoadKind::ConnectEcho, 64};

/// A load in a process of its own, from its start to wait() or to the end of this object.
class Running {
 public:
  /// @param inside the namespaces to run in; 0: the caller's
  Running(const Load& load, std::uint16_t port, std::chrono::milliseconds time, pid_t inside = 0) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) give_up("pipe2 failed");
    result_ = UniqueFd(ends[0]);
    const UniqueFd to(ends[1]);
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (inside != 0) enter_namespaces(inside);
    const LoadResult result = run_load(load, port, time);
    ::_exit(::write(to.get(), &result, sizeof result) == sizeof result ? 0 : 1);
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  [[nodiscard]] LoadResult wait() const {
    LoadResult result;
    if (::read(result_.get(), &result, sizeof result) != sizeof result || result.rate <= 0) {
      give_up("a load did not run");
    }
    return result;
  }

 private:
  UniqueFd result_;
  pid_t pid_ = -1;
};

LoadResult run_alone(const Load& load, std::uint16_t port, std::chrono::milliseconds time,
                     pid_t inside = 0) {
  return Running(load, port, time, inside).wait();
}

/// A client that requests the daemon's status.
class StatusCaller {
 public:
  explicit StatusCaller(const testing_support::PrivateBus& bus) {
    ::sd_bus_new(&bus_);
    ::sd_bus_set_address(bus_, bus.address().c_str());
    ::sd_bus_set_bus_client(bus_, 1);
    if (::sd_bus_start(bus_) < 0) give_up("no bus at " + bus.address());
  }
  StatusCaller(const StatusCaller&) = delete;
  StatusCaller& operator=(const StatusCaller&) = delete;
  ~StatusCaller() { ::sd_bus_flush_close_unref(bus_); }

  /// @return how long the answer took
  Clock::duration ask() {
    const auto began = Clock::now();
    sd_bus_message* answer = nullptr;
    if (::sd_bus_call_method(bus_, "org.portfwd1", "/org/portfwd1", "org.portfwd1.Manager",
                             "GetStatus", nullptr, &answer, "") < 0) {
      give_up("the daemon does not answer");
    }
    ::sd_bus_message_unref(answer);
    return Clock::now() - began;
  }

 private:
  sd_bus* bus_ = nullptr;
};

/// Computes until its end, so that only the scheduler affects others.
class Busy {
 public:
  Busy() : pid_(::fork()) {
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (volatile unsigned turn = 0;;) turn = turn + 1;
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;
  ~Busy() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

 private:
  pid_t pid_;
};

/// Effect of a load on 64 connections: measures them alone and beside it in turns, so that both
/// happen on the machine in the same condition.
class Beside {
 public:
  /// @param inside where the 64 run; 0: on the host, through the daemon
  explicit Beside(pid_t inside) : inside_(inside) {}
  /// @param disturb starts the load @return the object with which it ends
  template <class Disturb>
  void run(std::chrono::milliseconds time, const Disturb& disturb) {
    alone_.add(run_alone(kSixtyFour, kOther, time, inside_).p99);
    const auto other = disturb();
    rest(100ms);
    beside_.add(run_alone(kSixtyFour, kOther, time, inside_).p99);
  }
  void tell(Report& report, const std::string& way, const std::string& what,
            std::optional<double> most) const {
    report.tell(way + ", 64 connections: answer, p99", alone_.median(), "ms", {}, alone_.size());
    report.tell(fmt::format("{}, {} adds to that", way, what), beside_.median() - alone_.median(),
                "ms", most, beside_.size());
  }

 private:
  pid_t inside_;
  Samples alone_;
  Samples beside_;
};

void tell_bulk(Report& report, const Options& options) {
  const testing_support::PrivateBus bus;
  const LoadContainer busy(kBusy);
  const LoadContainer other(kOther);
  const Daemon daemon(bus);
  for (const std::uint16_t port : {kBusy, kOther}) run_alone(kOne, port, 1ms);  // until reachable
  const auto time = options.quick ? 500ms : 2000ms;
  Beside process(other.pid());
  Beside direct(other.pid());
  Beside through(0);
  for (int round = 0; round < (options.quick ? 3 : 7); ++round) {
    process.run(time, [] { return Busy(); });
    direct.run(time, [&] { return Running(kBulk, kBusy, kVeryLong, busy.pid()); });
    through.run(time, [] { return Running(kBulk, kBusy, kVeryLong); });
  }
  process.tell(report, "direct", "a process that computes", {});
  direct.tell(report, "direct", "a bulk stream", {});
  through.tell(report, "portfwd", "a bulk stream", 2);
}

void tell_storm(Report& report, const Options& options) {
  const testing_support::PrivateBus bus;
  const LoadContainer busy(kBusy);
  const LoadContainer other(kOther);
  Container third;
  const Daemon daemon(bus);
  StatusCaller caller(bus);
  for (const std::uint16_t port : {kBusy, kOther}) run_alone(kOne, port, 1ms);  // until reachable
  const auto time = options.quick ? 1000ms : 5000ms;
  const double before = run_alone(kOne, kOther, time).p99;
  const Running storm(kStorm, kBusy, kVeryLong);
  rest(200ms);
  const double during = run_alone(kOne, kOther, time).p99;
  Samples answers;
  for (int i = 0; i < (options.quick ? 50 : 500); ++i) {
    answers.add(caller.ask());
    rest(5ms);
  }
  Samples opened;
  for (std::uint16_t i = 0; i < (options.quick ? 5 : 40); ++i) {
    const auto listening = third.open(kNew + i);
    opened.add(first_byte(kNew + i) - listening);
  }
  report.tell("another forward alone: answer, p99", before, "ms");
  report.tell("another forward in a storm of connections: answer, p99", during, "ms");
  report.tell("in a storm of connections: D-Bus answer, p99", answers.percentile(99), "ms", 50,
              answers.size());
  report.tell("in a storm of connections: D-Bus answer, longest", answers.percentile(100), "ms");
  report.tell("in a storm of connections: new listener to first byte, median", opened.median(),
              "ms", {}, opened.size());
  report.tell("in a storm of connections: new listener to first byte, longest",
              opened.percentile(100), "ms");
}

int run(const Options& options) {
  Report report(options);
  if (options.runs("bulk")) tell_bulk(report, options);
  if (options.runs("storm")) tell_storm(report, options);
  return report.status();
}

}  // namespace
}  // namespace portfwd::bench

int main(int argc, char** argv) {
  return portfwd::bench::run(portfwd::bench::parse_options(argc, argv));
}
