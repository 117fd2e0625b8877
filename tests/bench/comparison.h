// The same loads over several ways, interleaved: the ratio of each to the direct one. A round is
// every load over every way, in an order that rotates. A ratio is to the direct rate of the same
// round, since the machine's condition changes. Owned by a benchmark, which makes the ways.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bench/load.h"
#include "bench/relay_process.h"

namespace portfwd::bench {

/// A way to the server, and the processes that it costs.
struct Way {
  std::string name;
  Place place;
  pid_t inside = 0;  ///< the namespaces that its clients run in; 0: the caller's
  std::function<std::vector<pid_t>()> processes = [] { return std::vector<pid_t>(); };
};

class Comparison {
 public:
  /// @param ways the first is the direct one @param server the process that serves the loads
  Comparison(std::vector<Way> ways, std::vector<Load> loads, pid_t server)
      : ways_(std::move(ways)), loads_(std::move(loads)), server_(server) {}

  void run(std::size_t rounds, std::chrono::milliseconds time);
  /// Reports medians with their spread, one JSON object a line; then the geometric mean of each
  /// way.
  void tell() const;

 private:
  struct Series {
    Samples rates;
    Samples ratios;
    Samples cpu;  ///< seconds for a gigabyte of bulk loads, else microseconds for an operation
    Samples fairness;
  };
  void run_load_once(const Load& load, std::size_t first, std::chrono::milliseconds time);
  void tell_way(const Way& way) const;

  std::vector<Way> ways_;
  std::vector<Load> loads_;
  pid_t server_;
  std::map<std::pair<std::string, std::string_view>, Series> table_;
};

/// Reports what each of `count` idle connections adds to the processes of the way: KiB and
/// descriptors.
void tell_idle_connections(const Way& way, std::size_t count);

}  // namespace portfwd::bench
