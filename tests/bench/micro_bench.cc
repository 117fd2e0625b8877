// What the single looks cost of which the daemon's life at rest consists. Figures of one function
// say where time goes; whether it matters is said by the other benchmarks.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <vector>

#include "event/event_loop.h"
#include "kernel/netns.h"
#include "kernel/proc_dir.h"
#include "kernel/sock_diag.h"
#include "kernel/sockstat.h"

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
