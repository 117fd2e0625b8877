// What the single looks cost of which the daemon's life at rest consists, and a turn of its loop.
// Figures of one function say where time goes; whether it matters is said by the other benchmarks.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <vector>

#include "event/event_loop.h"
#include "kernel/netns.h"
#include "kernel/proc_net.h"
#include "kernel/procfs.h"
#include "kernel/sock_diag.h"
#include "support/captured.h"
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

/// For each of so many listeners that a benchmark is about.
void tell_each(benchmark::State& state, std::size_t listeners) {
  using benchmark::Counter;
  state.counters["each"] = Counter(static_cast<double>(listeners),
                                   Counter::kIsIterationInvariantRate | Counter::kInvert);
}

/// As a watch looks: the kernel's walk, and what it says made into values.
void dump_of_listeners(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0));
  std::vector<UniqueFd> listeners(count);
  for (UniqueFd& one : listeners) one = testing_support::listen_on_loopback(Family::V4);
  auto diag = SockDiag::open();
  std::size_t seen = 0;
  for (auto _ : state) seen = diag->listeners()->size();
  if (seen != count) state.SkipWithError("not all were seen");
  tell_each(state, count);
}
BENCHMARK(dump_of_listeners)->Unit(benchmark::kMicrosecond)->Arg(10)->Arg(1000)->Arg(10'000);

/// One datagram of a dump: what of the above is ours.
void parse_of_a_dump(benchmark::State& state) {
  const std::string datagram = testing_support::captured("netlink/dump.bin");
  std::size_t sockets = 0;
  for (auto _ : state) {
    sockets = 0;
    netlink::Messages messages(std::as_bytes(std::span(datagram)));
    while (const auto message = messages.next()) {
      const auto socket = parse_diag_socket(message->payload);
      benchmark::DoNotOptimize(socket);
      sockets += socket ? 1 : 0;
    }
  }
  tell_each(state, sockets);
}
BENCHMARK(parse_of_a_dump)->Unit(benchmark::kMicrosecond);

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
