// Results of a benchmark: figures, each with its target, one JSON object a line. Owned by a
// benchmark's main. How they were measured is not known here.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace portfwd::bench {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::duration<double, std::milli>;

/// Samples of one kind, in any unit; sorted on demand.
class Samples {
 public:
  void add(double value) { values_.push_back(value); }
  void add(Clock::duration taken) { add(Milliseconds(taken).count()); }
  [[nodiscard]] std::size_t size() const { return values_.size(); }
  [[nodiscard]] double median() const { return percentile(50); }
  /// The smallest sample that at least `percent` of all do not exceed; NaN when there are no
  /// samples.
  [[nodiscard]] double percentile(double percent) const;

 private:
  std::vector<double> values_;
};

struct Options {
  bool quick = false;             ///< few samples, for the test that runs with every build
  std::optional<double> bounds;   ///< fail when a figure exceeds its target by this factor
  std::vector<std::string> only;  ///< names of the parts to run; all when empty
  [[nodiscard]] bool runs(const std::string& part) const;
};

/// Parses `[--quick] [--bounds FACTOR] [PART...]`; ends the program on anything else.
Options parse_options(int argc, char** argv);

class Report {
 public:
  explicit Report(const Options& options) : options_(options) {}

  /// Prints a figure at once. @param target the largest permitted value; none: it is only reported
  void tell(const std::string& name, double value, const std::string& unit,
            std::optional<double> target = {}, std::size_t samples = 0);
  /// Exit status: 1 when a figure exceeded its bounds.
  [[nodiscard]] int status() const { return exceeded_ ? 1 : 0; }

 private:
  const Options& options_;
  bool exceeded_ = false;
};

/// Reports what is wrong with this machine and ends the program: no figure is better than a wrong
/// one.
[[noreturn]] void give_up(const std::string& why);

}  // namespace portfwd::bench
