// How much of the direct connection a relay leaves: nine loads through portfwd and through
// whichever peers are installed, interleaved, as ratios to the same load inside the container in
// the same round. Usage: relay_bench [--quick]. One JSON object a line; tests/bench/run makes a
// table.
#include <fmt/format.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <map>
#include <ranges>

#include "bench/container.h"
#include "bench/daemon.h"
#include "bench/load.h"
#include "bench/relays.h"

namespace portfwd::bench {
namespace {

using namespace std::chrono_literals;
constexpr std::uint16_t kPort = 26'100;

/// Where one request is under way the scheduler may put both ends on one CPU or on two, which
/// halves or doubles the time: they are kept apart. All CPUs otherwise.
void place(pid_t process, const Load& load, std::size_t cpu) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const auto count = static_cast<std::size_t>(::sysconf(_SC_NPROCESSORS_ONLN));
  for (std::size_t i = 0; i < count; ++i) CPU_SET(i, &allowed);
  if (load.kind == LoadKind::Echo && load.connections == 1 && cpu < count) {
    CPU_ZERO(&allowed);
    CPU_SET(cpu, &allowed);
  }
  ::sched_setaffinity(process, sizeof allowed, &allowed);
}

/// In a process of its own, so that every run begins alike. @param inside the namespaces to run in;
/// 0: the caller's
LoadResult run_apart(const Load& load, std::uint16_t port, std::chrono::milliseconds time,
                     pid_t inside) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) give_up("pipe2 failed");
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    place(0, load, 0);
    if (inside != 0) enter_namespaces(inside);
    const LoadResult result = run_load(load, port, time);
    ::_exit(::write(to.get(), &result, sizeof result) == sizeof result ? 0 : 1);
  }
  to.reset();
  LoadResult result;
  if (::read(from.get(), &result, sizeof result) != sizeof result) result = {};
  ::waitpid(pid, nullptr, 0);
  return result;
}

/// What is compared: the way there, and who pays for it.
struct Way {
  std::string name;
  std::uint16_t port;
  pid_t inside = 0;
  std::function<Clock::duration()> cpu_time = [] { return Clock::duration(); };
};

struct Series {
  Samples ratios;
  Samples seconds_per_gigabyte;
  Samples microseconds_per_operation;
  Samples fairness;
};
using Table = std::map<std::pair<std::string, std::string_view>, Series>;

void run_round(const std::vector<Way>& ways, std::size_t first, const Load& load,
               std::chrono::milliseconds time, Table& table) {
  double direct = 0;
  for (std::size_t i = 0; i < ways.size(); ++i) {
    const Way& way = ways[i == 0 ? 0 : 1 + (i - 1 + first) % (ways.size() - 1)];
    const auto before = way.cpu_time();
    const LoadResult result = run_apart(load, way.port, time, way.inside);
    const double cpu = std::chrono::duration<double>(way.cpu_time() - before).count();
    if (i == 0) direct = result.rate;
    Series& series = table[{way.name, load.name}];
    series.ratios.add(direct > 0 ? result.rate / direct : 0);
    series.fairness.add(result.fairness);
    if (result.bytes > 0) series.seconds_per_gigabyte.add(cpu / result.bytes * 1e9);
    const double seconds = std::chrono::duration<double>(time).count();
    if (!load.is_bulk() && result.rate > 0) {
      series.microseconds_per_operation.add(cpu / (result.rate * seconds) * 1e6);
    }
  }
}

void tell_one(const Way& way, const Load& load, const Series& series) {
  fmt::print(
      R"({{"figure":"{}: {}","value":{:.3f},"unit":"of direct","least":{:.3f},"most":{:.3f})",
      way.name, load.name, series.ratios.median(), series.ratios.percentile(0),
      series.ratios.percentile(100));
  if (load.is_bulk()) {
    fmt::print(R"(,"cpu_seconds_per_gigabyte":{:.3f},"slowest_to_fastest":{:.2f}}})"
               "\n",
               series.seconds_per_gigabyte.median(), series.fairness.median());
  } else {
    fmt::print(R"(,"cpu_microseconds_per_operation":{:.1f}}})"
               "\n",
               series.microseconds_per_operation.median());
  }
}

void tell(const Way& way, const Table& table) {
  double logs = 0;
  for (const Load& load : kLoads) {
    const Series& series = table.at({way.name, load.name});
    tell_one(way, load, series);
    logs += std::log(std::max(series.ratios.median(), 0.001));
  }
  fmt::print(R"({{"figure":"{}: geometric mean","value":{:.3f},"unit":"of direct"}})"
             "\n",
             way.name, std::exp(logs / double(kLoads.size())));
}

int run(const Options& options) {
  allow_all_descriptors();
  enter_new_namespaces();
  const testing_support::PrivateBus bus;
  const LoadContainer container(kPort);
  const Daemon daemon(bus);
  const auto peers = start_peers({container.pid(), kPort, bus.folder()});
  std::vector<Way> ways{{"direct", kPort, container.pid()},
                        {"portfwd", kPort, 0, [&] { return daemon.cpu_time(); }}};
  for (const Relay& relay : peers) {
    ways.push_back({relay.name(), relay.port(), 0, [&relay] { return relay.cpu_time(); }});
  }
  Table table;
  const std::size_t rounds = options.quick ? 1 : 5;
  for (std::size_t round = 0; round < rounds; ++round) {
    for (const Load& load : kLoads) {
      place(container.pid(), load, 1);
      run_round(ways, round, load, options.quick ? 200ms : 700ms, table);
    }
  }
  for (const Way& way : ways | std::views::drop(1)) tell(way, table);
  return 0;
}

}  // namespace
}  // namespace portfwd::bench

int main(int argc, char** argv) {
  return portfwd::bench::run(portfwd::bench::parse_options(argc, argv));
}
