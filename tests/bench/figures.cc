#include "bench/figures.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string_view>

namespace portfwd::bench {

double Samples::percentile(double percent) const {
  if (values_.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::vector<double> ordered = values_;
  std::ranges::sort(ordered);
  const auto rank = std::ceil(percent / 100 * static_cast<double>(ordered.size()));
  return ordered[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
}

bool Options::runs(const std::string& part) const {
  return only.empty() || std::ranges::count(only, part) != 0;
}

Options parse_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--quick") {
      options.quick = true;
    } else if (word == "--bounds" && i + 1 < argc) {
      options.bounds = std::atof(argv[++i]);
    } else if (!word.starts_with('-')) {
      options.only.emplace_back(word);
    } else {
      give_up(fmt::format("usage: {} [--quick] [--bounds FACTOR] [PART...]", argv[0]));
    }
  }
  return options;
}

void Report::tell(const std::string& name, double value, const std::string& unit,
                  std::optional<double> target, std::size_t samples) {
  fmt::print(R"({{"figure":"{}","value":{:.4g},"unit":"{}")", name, value, unit);
  if (target) fmt::print(R"(,"target":{:g})", *target);
  if (samples > 0) fmt::print(R"(,"samples":{})", samples);
  fmt::print("}}\n");
  std::fflush(stdout);
  if (!target || !options_.bounds || value <= *target * *options_.bounds) return;
  exceeded_ = true;
  fmt::print(stderr, "{}: {:.4g} {} is more than {} times {:g}\n", name, value, unit,
             *options_.bounds, *target);
}

void give_up(const std::string& why) {
  fmt::print(stderr, "{}\n", why);
  std::exit(2);
}

}  // namespace portfwd::bench
