// Number of datagrams that a relay carries: echoes through portfwd, pasta and socat, interleaved,
// as ratios to the same load inside the container in the same round. pasta and portfwd relay from
// the host into the container; socat cannot enter and relays inside, which is less work.
// Usage: udp_bench [--quick] [memory] [PART of kUdpLoads...]. One JSON object a line.
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <list>
#include <map>
#include <ranges>

#include "bench/apart.h"
#include "bench/container.h"
#include "bench/daemon.h"
#include "bench/relays.h"
#include "bench/udp_load.h"

namespace portfwd::bench {
namespace {

using namespace std::chrono_literals;
constexpr std::uint16_t kPort = 26'200;
constexpr std::uint16_t kPastaPort = 26'201;
constexpr std::uint16_t kSocatPort = 26'202;
constexpr std::size_t kManyFlows = 4'000;  // beyond 4096 the daemon ends some

/// A process that ends with this object, with everything that it has forked.
class Process {
 public:
  explicit Process(pid_t pid) : pid_(pid) {}
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    ::kill(-pid_, SIGKILL);
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

/// Serves on two ports, since pasta of Debian 12 cannot map one UDP port to another.
pid_t start_server() {
  const pid_t pid = fork_into_namespaces();
  if (pid != 0) return pid;
  const pid_t second = ::fork();
  if (second == 0) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  serve_datagrams(second == 0 ? kPastaPort : kPort);
}

/// @param inside the namespaces to run in; 0: the caller's
pid_t start(const std::vector<std::string>& command, pid_t inside) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (inside != 0) enter_namespaces(inside);
  (void)!std::freopen("/dev/null", "w", stderr);
  ::close_range(3, ~0U, 0);
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

double rate_of(const UdpLoad& load, std::uint16_t port, std::chrono::milliseconds time,
               pid_t inside) {
  return run_apart([&] {
    if (inside != 0) enter_namespaces(inside);
    return run_udp_load(load, port, time);
  });
}

struct Way {
  std::string name;
  std::uint16_t port;
  pid_t inside;
};

bool works(const Way& way) {
  for (const auto end = Clock::now() + 5s; Clock::now() < end;) {
    if (rate_of(kUdpLoads[2], way.port, 50ms, way.inside) > 0) return true;
  }
  return false;
}

/// portfwd and the installed peers.
std::vector<Way> find_ways(pid_t server, std::list<Process>& relays) {
  std::vector<Way> ways{{"direct", kPort, server}, {"portfwd", kPort, 0}};
  if (std::filesystem::exists("/usr/bin/pasta")) {
    relays.emplace_back(start({"/usr/bin/pasta", "-f", "-q", "-t", "none", "-T", "none", "-u",
                               fmt::format("127.0.0.1/{},{}", kPastaPort, kPastaPort + kTrains),
                               "-U", "none", std::to_string(server)},
                              0));
    ways.push_back({"pasta", kPastaPort, 0});
  }
  if (std::filesystem::exists("/usr/bin/socat")) {
    for (const int above : {0, int(kTrains)}) {
      relays.emplace_back(
          start({"/usr/bin/socat", "-T1",
                 fmt::format("UDP4-LISTEN:{},bind=127.0.0.1,fork", kSocatPort + above),
                 fmt::format("UDP4:127.0.0.1:{}", kPort + above)},
                server));
    }
    ways.push_back({"socat", kSocatPort, server});
  }
  std::erase_if(ways, [](const Way& way) {
    const bool broken = !works(way);
    if (broken) fmt::print(stderr, "{} does not carry UDP here\n", way.name);
    return broken;
  });
  return ways;
}

using Table = std::map<std::pair<std::string, std::string_view>, Samples>;

void tell(const Options& options, const std::vector<Way>& ways, const Table& table) {
  for (const Way& way : ways) {
    for (const UdpLoad& load : kUdpLoads) {
      if (!options.runs(std::string(load.part))) continue;
      const Samples& samples = table.at({way.name, load.name});
      const bool direct = way.name == "direct";
      fmt::print(
          R"({{"figure":"UDP, {}: {}","value":{:.3f},"unit":"{}","least":{:.3f},"most":{:.3f}}})"
          "\n",
          way.name, load.name, samples.median(), direct ? "echoes/s" : "of direct",
          samples.percentile(0), samples.percentile(100));
    }
  }
}

/// Memory that each idle flow adds to a daemon that has had few so far.
void tell_memory(const Daemon& daemon) {
  ask_once_each(50, kPort);
  const Memory before = daemon.memory();
  const std::size_t had = daemon.descriptors();
  ask_once_each(kManyFlows, kPort);
  const Memory after = daemon.memory();
  const std::size_t flows = daemon.descriptors() - had;
  if (flows < kManyFlows - 200) give_up(fmt::format("UDP: only {} flows were made", flows));
  fmt::print(R"({{"figure":"UDP: memory of the daemon for each flow","value":{:.0f},"unit":"B"}})"
             "\n",
             (double(after.own) - double(before.own)) * 1024 / double(flows));
}

Table measure(const Options& options, const std::vector<Way>& ways) {
  Table table;
  for (std::size_t round = 0; round < (options.quick ? 1 : 5); ++round) {
    for (const UdpLoad& load : kUdpLoads) {
      if (!options.runs(std::string(load.part))) continue;
      double direct = 0;
      for (std::size_t i = 0; i < ways.size(); ++i) {
        const Way& way = ways[i == 0 ? 0 : 1 + (i - 1 + round) % (ways.size() - 1)];
        const double rate = rate_of(load, way.port, options.quick ? 200ms : 700ms, way.inside);
        if (i == 0) direct = rate;
        if (load.renewed && way.name == "socat") rest(2s);  // until its thousand processes end
        table[{way.name, load.name}].add(i == 0 ? rate : rate / direct);
      }
    }
  }
  return table;
}

int run(const Options& options) {
  allow_all_descriptors();
  const testing_support::PrivateBus bus;
  std::filesystem::create_directories(bus.folder() + "/portfwd");
  std::ofstream(bus.folder() + "/portfwd/config.toml")
      << "[detect]\nudp = true\n"
      << "[ports]\nexclude = [" << kPastaPort << ", " << kPastaPort + kTrains << ", " << kSocatPort
      << ", " << kSocatPort + kTrains << "]\n";
  const Process server(start_server());
  const Daemon daemon(bus);
  if (options.runs("memory")) tell_memory(daemon);
  std::list<Process> relays;
  const auto ways = find_ways(server.pid(), relays);
  tell(options, ways, measure(options, ways));
  return 0;
}

}  // namespace
}  // namespace portfwd::bench

int main(int argc, char** argv) {
  return portfwd::bench::run(portfwd::bench::parse_options(argc, argv));
}
