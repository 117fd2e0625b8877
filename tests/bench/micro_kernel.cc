// Costs of the single polls that the daemon makes at rest, and of a turn of its loop. The figures
// of one function show where time is spent; the other benchmarks show whether it matters.
#include <benchmark/benchmark.h>
#include <sys/socket.h>
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

/// Reports the time for each of `listeners` listeners.
void tell_each(benchmark::State& state, std::size_t listeners) {
  using benchmark::Counter;
  state.counters["each"] = Counter(static_cast<double>(listeners),
                                   Counter::kIsIterationInvariantRate | Counter::kInvert);
}

/// Dumps as a watch does: the kernel's walk, and the conversion of the result into values.
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

UniqueFd unix_listener() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sa_family_t family = AF_UNIX;  // alone, it makes the kernel choose an abstract name
  sockaddr unnamed{};
  unnamed.sa_family = family;
  (void)::bind(fd.get(), &unnamed, sizeof family);
  (void)::listen(fd.get(), 1);
  return fd;
}

void dump_of_unix_listeners(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0));
  std::vector<UniqueFd> listeners(count);
  for (UniqueFd& one : listeners) one = unix_listener();
  auto diag = SockDiag::open();
  std::size_t seen = 0;
  for (auto _ : state) seen = diag->unix_listeners()->size();
  if (seen < count) state.SkipWithError("not all were seen");
  tell_each(state, count);
}
BENCHMARK(dump_of_unix_listeners)->Unit(benchmark::kMicrosecond)->Arg(1)->Arg(10)->Arg(1000);

/// The dump of one listener beside `count` Unix sockets that do not listen.
void dump_beside_unix_sockets(benchmark::State& state) {
  const UniqueFd listener = unix_listener();
  std::vector<UniqueFd> others(static_cast<std::size_t>(state.range(0)));
  for (UniqueFd& one : others) one = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto diag = SockDiag::open();
  for (auto _ : state) benchmark::DoNotOptimize(diag->unix_listeners());
}
BENCHMARK(dump_beside_unix_sockets)->Unit(benchmark::kMicrosecond)->Arg(100)->Arg(10'000);

void table_of_unix_sockets(benchmark::State& state) {
  std::vector<UniqueFd> others(static_cast<std::size_t>(state.range(0)));
  for (UniqueFd& one : others) one = unix_listener();
  const auto table = ProcNetUnix::open(::getpid());
  for (auto _ : state) benchmark::DoNotOptimize(table->listeners());
}
BENCHMARK(table_of_unix_sockets)->Unit(benchmark::kMicrosecond)->Arg(0)->Arg(100);

/// Parses one datagram of a dump: the daemon's part of the above.
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
