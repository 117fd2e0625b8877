// What must not grow with size: the daemon's CPU time for one small message and its echo, beside
// many idle connections, forwards or containers; and what many connections leave behind after they
// have ended. Parts: connections forwards containers crowd.
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <list>

#include "bench/container.h"
#include "bench/daemon.h"
#include "bench/load.h"

namespace portfwd::bench {
namespace {

using namespace std::chrono_literals;
constexpr std::uint16_t kLoadPort = 15'000;
constexpr std::uint16_t kPort = 15'001;
constexpr double kMadeAhead = 16;  // sockets, in pools that many connections have filled

/// A daemon with a container that echoes, and a container beside it.
class Scene {
 public:
  Scene() : served_(kLoadPort), bus_(), daemon_(prepare(bus_)) { first_byte_of_load(); }

  [[nodiscard]] Daemon& daemon() { return daemon_; }

  /// Microseconds of CPU for a message there and back.
  double cost_of_an_echo(const Options& options) {
    const auto time = options.quick ? 200ms : 2000ms;
    const auto before = daemon_.cpu_time();
    const auto began = Clock::now();
    const LoadResult result = run_load({"", LoadKind::Echo, 1, 64}, kLoadPort, time);
    const std::chrono::duration<double> took = Clock::now() - began;
    const std::chrono::duration<double, std::micro> used = daemon_.cpu_time() - before;
    return used.count() / (result.rate * took.count());
  }

 private:
  /// Raises the limit on forwards so that it is not reached.
  static const testing_support::PrivateBus& prepare(const testing_support::PrivateBus& bus) {
    const std::filesystem::path folder = bus.folder() + "/portfwd";
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "config.toml") << "[host]\nmax_forwards = 10000\n";
    return bus;
  }

  static void first_byte_of_load() {
    for (const auto end = Clock::now() + 10s; Clock::now() < end; rest(1ms)) {
      if (run_load({"", LoadKind::Echo, 1, 64}, kLoadPort, 1ms).rate > 0) return;
    }
    give_up("the load server was not reachable in time");
  }

  LoadContainer served_;
  testing_support::PrivateBus bus_;
  Daemon daemon_;
};

void tell(Report& report, const char* what, std::size_t size, double value, const char* unit,
          std::optional<double> target = {}) {
  report.tell(fmt::format("{} {}", size, what), value, unit, target);
}

void connect(std::vector<UniqueFd>& clients, std::uint16_t port, std::size_t count) {
  while (clients.size() < count) {
    clients.push_back(connect_to(port));
    if (!clients.back().valid()) give_up("a connection was refused");
  }
}

/// Everything must be released, except the allocator's reserve and the sockets made ahead.
void tell_what_is_left(Report& report, const char* what, const Daemon& daemon, Memory before,
                       std::size_t descriptors) {
  rest(6s);  // until pools are filled again, and pipes and closing sockets are gone
  report.tell(fmt::format("{}: memory it left behind", what),
              double(daemon.memory().anonymous) - double(before.anonymous), "KiB",
              double(before.anonymous) / 5);
  report.tell(fmt::format("{}: descriptors it left behind", what),
              double(daemon.descriptors()) - double(descriptors), "", kMadeAhead);
}

void tell_connections(Report& report, const Options& options) {
  Scene scene;
  Container beside;
  beside.open(kPort);
  first_byte(kPort);
  rest(1s);
  const Memory before = scene.daemon().memory();
  const std::size_t descriptors = scene.daemon().descriptors();
  {
    std::vector<UniqueFd> clients;
    for (const std::size_t count : {1UL, 100UL, 1000UL, options.quick ? 2000UL : 9000UL}) {
      connect(clients, kPort, count);
      tell(report, "connections: CPU for one echo", count, scene.cost_of_an_echo(options), "us");
    }
  }
  tell_what_is_left(report, "connections that have closed", scene.daemon(), before, descriptors);
}

void tell_forwards(Report& report, const Options& options) {
  Scene scene;
  Container beside;
  std::uint16_t port = kPort;
  for (const std::size_t count : {1UL, 100UL, 1000UL, options.quick ? 1000UL : 5000UL}) {
    Clock::time_point opened;
    while (port < kPort + count) opened = beside.open(port++);
    const auto reached = first_byte(port - 1);
    rest(options.quick ? 100ms : 2s);
    tell(report, "forwards: CPU for one echo", count, scene.cost_of_an_echo(options), "us");
    tell(report, "forwards: last listener to its first byte", count,
         Milliseconds(reached - opened).count(), "ms");
    tell(report, "forwards: resident memory", count,
         double(scene.daemon().memory().resident) / 1024, "MiB");
  }
}

void tell_containers(Report& report, const Options& options) {
  Scene scene;
  std::list<Container> beside;
  for (const std::size_t count : {1UL, 50UL, 200UL, options.quick ? 200UL : 500UL}) {
    const auto port_of = [](std::size_t i) { return static_cast<std::uint16_t>(kPort + i); };
    const std::size_t before = beside.size();
    while (beside.size() < count) {
      const std::uint16_t port = port_of(beside.size());
      beside.emplace_back().open(port);
    }
    for (std::size_t i = before; i < count; ++i) first_byte(port_of(i));
    rest(options.quick ? 100ms : 2s);
    tell(report, "containers: CPU for one echo", count, scene.cost_of_an_echo(options), "us");
    tell(report, "containers: resident memory", count,
         double(scene.daemon().memory().resident) / 1024, "MiB");
  }
}

/// Makes connections as fast as possible for a minute, each with one message: the last must cost
/// what the first did.
void tell_crowd(Report& report, const Options& options) {
  const Load load{"", LoadKind::ConnectEcho, 16, 64};
  const auto part = options.quick ? 300ms : 10'000ms;
  Scene scene;
  run_load(load, kLoadPort, 1s);
  rest(6s);
  const Memory before = scene.daemon().memory();
  const std::size_t descriptors = scene.daemon().descriptors();
  for (int nth = 1; nth <= 6; ++nth) {
    const auto cpu = scene.daemon().cpu_time();
    const LoadResult result = run_load(load, kLoadPort, part);
    const std::chrono::duration<double, std::micro> used = scene.daemon().cpu_time() - cpu;
    const std::string name = fmt::format("crowd, part {} of 6: ", nth);
    report.tell(name + "connections set up", result.rate, "/s");
    report.tell(name + "CPU for a connection", used.count() / result.count, "us");
  }
  tell_what_is_left(report, "crowd", scene.daemon(), before, descriptors);
}

int run(const Options& options) {
  allow_all_descriptors();
  enter_new_namespaces();
  Report report(options);
  if (options.runs("connections")) tell_connections(report, options);
  if (options.runs("forwards")) tell_forwards(report, options);
  if (options.runs("containers")) tell_containers(report, options);
  if (options.runs("crowd")) tell_crowd(report, options);
  return report.status();
}

}  // namespace
}  // namespace portfwd::bench

int main(int argc, char** argv) {
  return portfwd::bench::run(portfwd::bench::parse_options(argc, argv));
}
