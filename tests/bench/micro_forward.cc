// Costs of the forward table by the number of its forwards: to reconcile a container that has all
// of them, to be notified of a port beside them, and to find one. On real host ports of one
// address.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <vector>

#include "support/forward_table_fixture.h"

namespace portfwd {
namespace {

constexpr Port kFirstPort = 6000;  // some ports below are not forwarded by default

/// A container with `forwards` listeners, all forwarded, and another one with one listener.
class Table final : private testing_support::ForwardTableTest {
 public:
  explicit Table(std::size_t forwards) : ports_(forwards) {
    settings.host.bind.only = IpAddress::loopback(Family::V4);
    settings.host.max_forwards = 20'000;
    settings.host.linger = std::chrono::hours(1);
    table->apply_settings();
    std::ranges::generate(ports_, [port = kFirstPort]() mutable { return port++; });
    crowded_.set_ports(ports_);
  }

  void reconcile_crowded() {
    table->on_listeners(crowded_);
    reconcile();
  }
  void reconcile_beside(bool open) {
    show(beside_, open ? std::vector{Port{1500}} : std::vector<Port>());
    told.changes.clear();
  }
  [[nodiscard]] bool has_all() const { return table->forwards().size() == ports_.size(); }
  [[nodiscard]] auto find_last() const { return table->forwards().find_id(last_); }
  [[nodiscard]] auto seen_last() const {
    return table->seen(crowded_.container(), {Protocol::Tcp, ports_.back()});
  }

 private:
  void TestBody() override {}
  testing_support::TestAccess& crowded_ = container("crowded");
  testing_support::TestAccess& beside_ = container("beside");
  std::vector<Port> ports_;
  std::string last_ = "f" + std::to_string(ports_.size());
};

/// Creates all of them at once.
void make_forwards(benchmark::State& state) {
  for (auto _ : state) {
    Table table(static_cast<std::size_t>(state.range(0)));
    const auto began = std::chrono::steady_clock::now();
    table.reconcile_crowded();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    state.SetIterationTime(took.count());
    if (!table.has_all()) state.SkipWithError("not all were made");
  }
}

template <class Work>
void measure(benchmark::State& state, const Work& work) {
  Table table(static_cast<std::size_t>(state.range(0)));
  table.reconcile_crowded();
  for (auto _ : state) work(table);
}

void reconcile_unchanged(benchmark::State& state) {
  measure(state, [](Table& table) { table.reconcile_crowded(); });
}

/// Removes and restores a forward in another container.
void reconcile_one_beside(benchmark::State& state) {
  measure(state, [](Table& table) {
    table.reconcile_beside(false);
    table.reconcile_beside(true);
  });
}

void find_by_id(benchmark::State& state) {
  measure(state, [](const Table& table) { benchmark::DoNotOptimize(table.find_last()); });
}

void find_by_port(benchmark::State& state) {
  measure(state, [](const Table& table) { benchmark::DoNotOptimize(table.seen_last()); });
}

void sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->Unit(benchmark::kMicrosecond)->Arg(10)->Arg(1000)->Arg(10'000);
}
BENCHMARK(make_forwards)->Apply(sizes)->UseManualTime()->Iterations(3);
BENCHMARK(reconcile_unchanged)->Apply(sizes);
BENCHMARK(reconcile_one_beside)->Apply(sizes);
BENCHMARK(find_by_id)->Apply(sizes);
BENCHMARK(find_by_port)->Apply(sizes);

}  // namespace
}  // namespace portfwd
