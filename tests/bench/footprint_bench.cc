// Cost of the daemon for the machine: time to start, memory at rest, and what each idle connection
// adds. Parts: start idle connections.
#include <fmt/core.h>

#include <list>

#include "bench/container.h"
#include "bench/daemon.h"

namespace portfwd::bench {
namespace {

using namespace std::chrono_literals;
constexpr std::uint16_t kPort = 14'000;
constexpr std::size_t kContainers = 10;

class Scene {
 public:
  Scene() {
    std::uint16_t port = kPort;
    for (Container& c : containers_) c.open(port++);
  }
  testing_support::PrivateBus bus;

 private:
  std::list<Container> containers_{kContainers};
};

void reach_all() {
  for (std::uint16_t i = 0; i < kContainers; ++i) first_byte(kPort + i);
}

void tell_start(Report& report, const Options& options) {
  Scene scene;
  Samples starts;
  for (int i = 0; i < (options.quick ? 3 : 20); ++i) starts.add(Daemon(scene.bus).took_to_start());
  report.tell("10 containers: start to READY, median", starts.median(), "ms", 100, starts.size());
  report.tell("10 containers: start to READY, most", starts.percentile(100), "ms", {},
              starts.size());
}

void tell_idle(Report& report, const Options& options) {
  Scene scene;
  const Daemon daemon(scene.bus);
  reach_all();
  rest(options.quick ? 1s : 10s);
  const Memory memory = daemon.memory();
  report.tell("10 containers: resident memory", double(memory.resident) / 1024, "MiB", 8);
  report.tell("10 containers: of it private and written", double(memory.own) / 1024, "MiB");
  Samples brokers;
  const auto processes = daemon.processes();
  for (std::size_t i = 1; i < processes.size(); ++i) {
    brokers.add(double(daemon.resident(processes[i])));
  }
  report.tell("broker: resident memory, most", brokers.percentile(100) / 1024, "MiB", 1,
              brokers.size());
  report.tell("10 containers: descriptors", double(daemon.descriptors()), "");
}

void tell_connections(Report& report, const Options& options) {
  allow_all_descriptors();
  Scene scene;
  const Daemon daemon(scene.bus);
  reach_all();
  std::vector<UniqueFd> clients;
  const auto connect = [&](std::size_t count) {
    while (clients.size() < count) {
      clients.push_back(connect_to(kPort));
      if (!clients.back().valid()) give_up("a connection was refused");
    }
    rest(options.quick ? 1s : 5s);  // until pools are filled again and pipes are closed
  };
  connect(200);  // the first connections create what all share
  const Memory before = daemon.memory();
  const std::size_t descriptors = daemon.descriptors();
  const std::size_t added = 2000;
  connect(200 + added);
  const auto each = [&](auto now, auto then) {
    return (double(now) - double(then)) / double(added);
  };
  const Memory after = daemon.memory();
  report.tell("an idle connection: memory of the daemon",
              each(after.anonymous, before.anonymous) * 1024, "B", 1024, added);
  report.tell("an idle connection: descriptors", each(daemon.descriptors(), descriptors), "", 2.05,
              added);
}

int run(const Options& options) {
  Report report(options);
  if (options.runs("start")) tell_start(report, options);
  if (options.runs("idle")) tell_idle(report, options);
  if (options.runs("connections")) tell_connections(report, options);
  return report.status();
}

}  // namespace
}  // namespace portfwd::bench

int main(int argc, char** argv) {
  return portfwd::bench::run(portfwd::bench::parse_options(argc, argv));
}
