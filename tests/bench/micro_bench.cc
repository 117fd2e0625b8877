// What the single looks cost of which the daemon's life at rest consists. Figures of one function
// say where time goes; whether it matters is said by the other benchmarks.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "event/event_loop.h"
#include "kernel/netns.h"
#include "kernel/proc_dir.h"
#include "kernel/sock_diag.h"
#include "kernel/sockstat.h"
#include "relay/client_identity.h"
#include "support/streams.h"

namespace portfwd {
namespace {

void list_processes(benchmark::State& state) {
  const ProcDir proc;
  std::vector<ProcDir::Entry> entries;
  for (auto _ : state) benchmark::DoNotOptimize(proc.list(entries));
  state.counters["processes"] = static_cast<double>(entries.size());
}
BENCHMARK(list_processes)->Unit(benchmark::kMicrosecond);

void namespace_of_a_process(benchmark::State& state) {
  const ProcDir proc;
  for (auto _ : state) benchmark::DoNotOptimize(proc.netns(::getpid()));
}
BENCHMARK(namespace_of_a_process)->Unit(benchmark::kMicrosecond);

void glance_at_counters(benchmark::State& state) {
  const ProcDir proc;
  auto counters = Sockstat::open(::getpid(), proc.netns(::getpid()).value_or(0));
  for (auto _ : state) benchmark::DoNotOptimize(counters->read());
}
BENCHMARK(glance_at_counters)->Unit(benchmark::kMicrosecond);

void dump_of_listeners(benchmark::State& state) {
  auto diag = SockDiag::open();
  for (auto _ : state) benchmark::DoNotOptimize(diag->listeners());
}
BENCHMARK(dump_of_listeners)->Unit(benchmark::kMicrosecond);

/// What accepting costs more, for the sake of the machine's other users: right after a connection
/// was made, and after so many MiB of other things have passed through the caches (0: none; 2:
/// about the nearer ones; 32: all of them). The median is what counts.
void whose_is_the_client(benchmark::State& state) {
  ClientIdentity identity(*SockDiag::open(), ::geteuid(), Subuids("/etc/subuid", "", ::geteuid()));
  const UniqueFd listener = testing_support::listen_on_loopback(Family::V4);
  const Endpoint ours = *local_endpoint(listener.get());
  std::vector<char> others(static_cast<std::size_t>(state.range(0)) * 1024 * 1024);
  std::vector<double> seconds;
  for (auto _ : state) {
    const UniqueFd client = testing_support::connect_to_port(ours);
    const UniqueFd accepted = testing_support::accept_from(listener);
    const Endpoint theirs = *peer_endpoint(accepted.get());
    for (std::size_t i = 0; i < others.size(); i += 64) ++others[i];
    const auto began = std::chrono::steady_clock::now();
    if (!identity.examine(accepted.get(), theirs, ours, {}).let_in())
      state.SkipWithError("refused");
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    seconds.push_back(took.count());
    state.SetIterationTime(took.count());
  }
  std::ranges::sort(seconds);
  state.counters["median_us"] = 1e6 * seconds[seconds.size() / 2];
  state.counters["p99_us"] = 1e6 * seconds[seconds.size() * 99 / 100];
}
BENCHMARK(whose_is_the_client)
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime()
    ->Iterations(2000)
    ->Arg(0)
    ->Arg(2)
    ->Arg(32);

void turn_of_the_loop(benchmark::State& state) {
  const SystemClock clock;
  EventLoop loop(clock);
  Timer timer(loop, [] {});
  for (auto _ : state) {
    timer.arm_now();
    benchmark::DoNotOptimize(loop.turn(Duration::zero()));
  }
}
BENCHMARK(turn_of_the_loop)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace portfwd

BENCHMARK_MAIN();
