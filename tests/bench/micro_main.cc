// Google Benchmark's main, in a network namespace of its own: what listens there is what a
// benchmark made, and no port is anybody else's. What is measured is said in micro_*.cc, a file for
// each part of the daemon.
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
