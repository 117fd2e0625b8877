// What a benchmark says in the end: figures, each with the target it is held to, one JSON object a
// line. Owned by a benchmark's main. It knows nothing of how they were taken.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace portfwd::bench {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::duration<double, std::milli>;

/// Of one kind, in any unit; ordered only when asked.
class Samples {
 public:
  void add(double value) { values_.push_back(value); }
  void add(Clock::duration taken) { add(Milliseconds(taken).count()); }
  [[nodiscard]] std::size_t size() const { return values_.size(); }
  [[nodiscard]] double median() const { return percentile(50); }
  /// The smallest sample that at least `percent` of all do not exceed; NaN when there is none.
  [[nodiscard]] double percentile(double percent) const;

 private:
  std::vector<double> values_;
};

struct Options {
  bool quick = false;             ///< few samples: for the test that runs with every build
  std::optional<double> bounds;   ///< fail when a figure exceeds its target so many times
  std::vector<std::string> only;  ///< names of the parts to run; all when empty
  [[nodiscard]] bool runs(const std::string& part) const;
};

/// `[--quick] [--bounds FACTOR] [PART...]`; ends the program on anything else.
Options parse_options(int argc, char** argv);

class Report {
 public:
  explicit Report(const Options& options) : options_(options) {}

  /// Prints it at once. @param target the most it may be; none: it is only told
  void tell(const std::string& name, double value, const std::string& unit,
            std::optional<double> target = {}, std::size_t samples = 0);
  /// Exit status: 1 when a figure was out of its bounds.
  [[nodiscard]] int status() const { return exceeded_ ? 1 : 0; }

 private:
  const Options& options_;
  bool exceeded_ = false;
};

/// Says what is wrong with this machine, and ends the program: no figure is better than a wrong
/// one.
[[noreturn]] void give_up(const std::string& why);

}  // namespace portfwd::bench
