// Google Benchmark's main, in a network namespace of its own: only the benchmarks listen there, and
// all ports are free. Each micro_*.cc measures one part of the daemon.
#include <benchmark/benchmark.h>

#include "bench/container.h"

int main(int argc, char** argv) {
  portfwd::bench::allow_all_descriptors();
  portfwd::bench::enter_new_namespaces();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
