// Latencies, by the container's own clock: a listener opens and is reachable, it closes and is no
// longer `active`, its container ends and everything is removed; and what the daemon uses for it.
// Parts: new exec exit many list.
#include <fmt/core.h>

#include <list>
#include <random>

#include "bench/container.h"
#include "bench/daemon.h"

namespace portfwd::bench {
namespace {

using namespace std::chrono_literals;
constexpr std::uint16_t kIdlePort = 12'000;
constexpr std::uint16_t kPort = 13'000;

/// Containers with one unused listener each, and a daemon that knows them.
class Scene {
 public:
  Scene(std::size_t count, const Options& options)
      : options_(options), bus_(), containers_(count), daemon_(bus_), signals_(bus_) {
    std::uint16_t port = kIdlePort;
    for (Container& c : containers_) c.open(port++);
    while (port-- > kIdlePort) first_byte(port);
    settle();
  }

  /// The daemon polls quickly for 15 s after activity.
  void settle() const { rest(options_.quick ? 1s : 17s); }

  [[nodiscard]] const testing_support::PrivateBus& bus() const { return bus_; }
  Daemon& daemon() { return daemon_; }
  BusListener& signals() { return signals_; }
  std::list<Container>& containers() { return containers_; }

  /// Returns another container each time, at a random moment of the daemon's poll interval. With
  /// ten containers and turns of 1.6 s the container was quiet for 15 s.
  Container& next(Clock::duration turn) {
    std::uniform_real_distribution<double> share(0.9, 1.1);
    rest(std::chrono::duration_cast<Clock::duration>(turn * share(random_)));
    containers_.splice(containers_.end(), containers_, containers_.begin());
    signals_.clear();
    return containers_.back();
  }

 private:
  const Options& options_;
  testing_support::PrivateBus bus_;
  std::list<Container> containers_;
  Daemon daemon_;
  BusListener signals_;
  std::minstd_rand random_{1};
};

void tell_latency(Report& report, const std::string& name, const Samples& samples, double median,
                  std::optional<double> p99) {
  report.tell(name + ", median", samples.median(), "ms", median, samples.size());
  report.tell(name + ", p99", samples.percentile(99), "ms", p99, samples.size());
}

void tell_idle(Report& report, const std::string& who, Scene& scene, const Options& options,
               double target) {
  const Meter meter(scene.daemon());
  rest(options.quick ? 2s : 25s);
  const auto cpu_target = options.quick ? std::nullopt : std::optional(target);
  report.tell(who + ", idle: CPU", meter.cpu_percent(), "%", cpu_target);
  report.tell(who + ", idle: wake-ups", meter.wakeups_per_second(), "/s");
}

void tell_new_and_close(Report& report, const Options& options, Scene& scene) {
  Samples opened;
  Samples left;
  Samples closed_port;
  const Meter meter(scene.daemon());
  for (std::uint16_t i = 0; i < (options.quick ? 12 : 120); ++i) {
    Container& c = scene.next(options.quick ? 100ms : 1600ms);
    const std::uint16_t port = kPort + i;
    const auto listening = c.open(port);
    opened.add(first_byte(port) - listening);
    scene.signals().wait_for("PortAdded");
    scene.signals().clear();
    const auto closing = c.close(port);
    left.add(scene.signals().wait_for("PropertiesChanged", "lingering") - closing);
  }
  const double cpu = meter.cpu_percent();
  tell_latency(report, "10 containers: new listener to first byte", opened, 50, 150);
  tell_latency(report, "10 containers: close to no longer active", left, 20, std::nullopt);
  report.tell("10 containers, a port a 1.6 s: CPU", cpu, "%",
              options.quick ? std::nullopt : std::optional(0.5));
}

void tell_exec(Report& report, const Options& options, Scene& scene) {
  Samples opened;
  for (std::uint16_t i = 0; i < (options.quick ? 10 : 100); ++i) {
    Container& c = scene.next(options.quick ? 100ms : 1600ms);
    const std::uint16_t port = kPort + 1000 + i;
    const auto listening = c.exec_server(port);
    opened.add(first_byte(port) - listening);
    c.end_server();
  }
  tell_latency(report, "10 containers: executed server to first byte", opened, 10, std::nullopt);
}

void tell_exit(Report& report, const Options& options, Scene& scene) {
  Samples port_gone;
  Samples told;
  for (std::uint16_t i = 0; i < (options.quick ? 5 : 50); ++i) {
    Container passing;
    const std::uint16_t port = kPort + 2000 + i;
    passing.open(port);
    first_byte(port);
    scene.next(options.quick ? 50ms : 200ms);
    const auto exiting = Clock::now();
    passing.kill();
    port_gone.add(refused(port) - exiting);
    told.add(scene.signals().wait_for("ContainerRemoved") - exiting);
  }
  tell_latency(report, "last process exits to port closed", port_gone, 50, std::nullopt);
  tell_latency(report, "last process exits to ContainerRemoved", told, 50, std::nullopt);
}

void tell_many(Report& report, const Options& options) {
  Scene scene(200, options);
  tell_idle(report, "200 containers", scene, options, 1.0);
  Samples opened;
  const Meter meter(scene.daemon());
  for (std::uint16_t i = 0; i < (options.quick ? 10 : 150); ++i) {
    Container& c = scene.next(300ms);
    const std::uint16_t port = kPort + 3000 + i;
    const auto listening = c.open(port);
    opened.add(first_byte(port) - listening);
    c.close(port);
  }
  const double cpu = meter.cpu_percent();
  report.tell("200 containers: new listener to first byte, median", opened.median(), "ms", {},
              opened.size());
  report.tell("200 containers: new listener to first byte, p99", opened.percentile(99), "ms", 1100,
              opened.size());
  report.tell("200 containers, 3 ports a second: CPU", cpu, "%",
              options.quick ? std::nullopt : std::optional(1.0));
}

void tell_list(Report& report, const Options& options) {
  const Scene scene(200, options);
  Samples all;
  Samples json;
  for (int i = 0; i < (options.quick ? 10 : 50); ++i) {
    all.add(ask_by_client(scene.bus(), {"containers", "--all"}));
    json.add(ask_by_client(scene.bus(), {"--json", "containers", "--all"}));
  }
  report.tell("200 containers: portfwdctl containers --all, median", all.median(), "ms", 50,
              all.size());
  report.tell("200 containers: portfwdctl --json containers --all, median", json.median(), "ms", 50,
              json.size());
}

int run(const Options& options) {
  Report report(options);
  if (options.runs("new") || options.runs("exec") || options.runs("exit")) {
    Scene scene(10, options);
    if (options.runs("new")) {
      tell_idle(report, "10 containers", scene, options, 0.5);
      tell_new_and_close(report, options, scene);
    }
    if (options.runs("exec")) tell_exec(report, options, scene);
    if (options.runs("exit")) tell_exit(report, options, scene);
  }
  if (options.runs("many")) tell_many(report, options);
  if (options.runs("list")) tell_list(report, options);
  return report.status();
}

}  // namespace
}  // namespace portfwd::bench

int main(int argc, char** argv) {
  portfwd::bench::serve_if_asked(argc, argv);
  return portfwd::bench::run(portfwd::bench::parse_options(argc, argv));
}
