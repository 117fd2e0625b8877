#include "event/slow_turns.h"

#include <fmt/format.h>

#include <utility>

#include "base/log.h"
#include "base/process_usage.h"

namespace portfwd {

namespace {

constexpr Duration kSampleEvery = std::chrono::seconds(1);

std::int64_t ms(Duration d) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
}

}  // namespace

void SlowTurns::sample(TimePoint now) {
  if (sampled_ != TimePoint::min() && now - sampled_ < kSampleEvery) return;
  sampled_ = now;
  cpu_ = thread_cpu_time();
}

void SlowTurns::report(TimePoint now, Duration took, std::string_view mostly,
                       Duration mostly_took) {
  const bool told_lately = told_ != TimePoint::min() && now - told_ < kBetweenLines;
  if (told_lately) {
    ++left_out_;
    return;
  }
  told_ = now;
  const unsigned more = std::exchange(left_out_, 0);
  log::warning("a turn took {} ms, {} ms of it in {}; {} ms of CPU in the last {} ms{}", ms(took),
               ms(mostly_took), mostly, ms(thread_cpu_time() - cpu_), ms(now - sampled_),
               more == 0 ? "" : fmt::format("; {} more since the last such line", more));
}

}  // namespace portfwd
