#include "bench/comparison.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <ranges>

#include "bench/apart.h"

namespace portfwd::bench {
namespace {

/// Pins a process when one request at a time is measured: the scheduler may put both ends on one
/// CPU or on two, which halves or doubles the time, so each end gets its own. Allows all CPUs
/// otherwise.
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

LoadResult measure(const Load& load, const Way& way, std::chrono::milliseconds time) {
  return run_apart([&] {
    place(0, load, 0);
    if (way.inside != 0) enter_namespaces(way.inside);
    return run_load(load, way.place, time);
  });
}

Clock::duration cpu_time_of(const Way& way) {
  const auto processes = way.processes();
  return bench::cpu_time_of(processes);
}

void tell_rate(const Way& way, const Load& load, const Samples& rates) {
  const double rate = load.is_bulk() ? rates.median() * 8 / 1e9 : rates.median();
  fmt::print(R"({{"figure":"{}: {}","value":{:.4g},"unit":"{}"}})"
             "\n",
             way.name, load.name, rate, load.is_bulk() ? "Gbit/s" : "/s");
}

}  // namespace

void Comparison::run(std::size_t rounds, std::chrono::milliseconds time) {
  for (std::size_t round = 0; round < rounds; ++round) {
    for (const Load& load : loads_) run_load_once(load, round, time);
  }
}

void Comparison::run_load_once(const Load& load, std::size_t first,
                               std::chrono::milliseconds time) {
  place(server_, load, 1);
  double direct = 0;
  for (std::size_t i = 0; i < ways_.size(); ++i) {
    const Way& way = ways_[i == 0 ? 0 : 1 + (i - 1 + first) % (ways_.size() - 1)];
    const auto before = cpu_time_of(way);
    const LoadResult result = measure(load, way, time);
    const double cpu = std::chrono::duration<double>(cpu_time_of(way) - before).count();
    if (i == 0) direct = result.rate;
    Series& series = table_[{way.name, load.name}];
    series.rates.add(result.rate);
    series.ratios.add(direct > 0 ? result.rate / direct : 0);
    series.fairness.add(result.fairness);
    if (result.count > 0) series.cpu.add(cpu / result.count * (load.is_bulk() ? 1e9 : 1e6));
  }
}

void Comparison::tell_way(const Way& way) const {
  double logs = 0;
  for (const Load& load : loads_) {
    const Series& series = table_.at({way.name, load.name});
    logs += std::log(std::max(series.ratios.median(), 0.001));
    fmt::print(R"({{"figure":"{}: {}","relay":"{}","load":"{}","value":{:.3f},"unit":"of direct",)"
               R"("least":{:.3f},"most":{:.3f})",
               way.name, load.name, way.name, load.name, series.ratios.median(),
               series.ratios.percentile(0), series.ratios.percentile(100));
    if (series.cpu.size() > 0) {
      fmt::print(R"(,"{}":{:.4g})",
                 load.is_bulk() ? "cpu_seconds_per_gigabyte" : "cpu_microseconds_per_operation",
                 series.cpu.median());
    }
    if (load.is_bulk()) fmt::print(R"(,"slowest_to_fastest":{:.2f})", series.fairness.median());
    fmt::print("}}\n");
  }
  fmt::print(R"({{"figure":"{}: geometric mean","relay":"{}","load":"geometric mean",)"
             R"("value":{:.3f},"unit":"of direct"}})"
             "\n",
             way.name, way.name, std::exp(logs / static_cast<double>(loads_.size())));
}

void Comparison::tell() const {
  const Way& direct = ways_.front();
  for (const Load& load : loads_) {
    tell_rate(direct, load, table_.at({direct.name, load.name}).rates);
  }
  for (const Way& way : ways_ | std::views::drop(1)) tell_way(way);
}

void tell_idle_connections(const Way& way, std::size_t count) {
  constexpr std::size_t kFirst = 100;  // they create what is needed once for all
  std::vector<UniqueFd> held;
  const auto hold = [&](std::size_t more) {
    for (std::size_t i = 0; i < more; ++i) held.push_back(idle_connection(way.place));
    return footprint_of(way.processes());
  };
  const Footprint before = hold(kFirst);
  const Footprint after = hold(count);
  if (!std::ranges::all_of(held, &UniqueFd::valid)) {
    fmt::print(stderr, "{} does not hold {} connections\n", way.name, held.size());
    return;
  }
  const auto each = [&](double then, double now) {
    return (now - then) / static_cast<double>(count);
  };
  const double descriptors = each(before.descriptors, after.descriptors);
  fmt::print(R"({{"figure":"{}: an idle connection","relay":"{}","load":"an idle connection, KiB",)"
             R"("value":{:.2f},"unit":"KiB")",
             way.name, way.name, each(before.memory, after.memory));
  if (!std::isnan(descriptors)) fmt::print(R"(,"descriptors":{:.1f})", descriptors);
  fmt::print("}}\n");
}

}  // namespace portfwd::bench
