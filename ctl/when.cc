#include "ctl/when.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>

namespace portfwd::ctl {
namespace {

using std::chrono::microseconds;
using std::chrono::minutes;

/// Consumes text from its front. A failure is kept, so one check at the end is enough.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : left_(text) {}

  [[nodiscard]] bool done() const { return ok_ && left_.empty(); }
  [[nodiscard]] bool empty() const { return left_.empty(); }
  [[nodiscard]] bool ok() const { return ok_; }

  /// Reads exactly `digits` decimal digits.
  unsigned number(std::size_t digits) {
    unsigned value = 0;
    for (std::size_t i = 0; i < digits; ++i) value = value * 10 + digit();
    return value;
  }
  /// Reads all digits at the front, at least one.
  std::uint64_t number() {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(left_.data(), left_.data() + left_.size(), value);
    if (error != std::errc{}) ok_ = false;
    left_.remove_prefix(static_cast<std::size_t>(end - left_.data()));
    return value;
  }
  bool accept(std::string_view any_of) {
    if (left_.empty() || any_of.find(left_[0]) == any_of.npos) return false;
    left_.remove_prefix(1);
    return true;
  }
  void expect(std::string_view any_of) { ok_ &= accept(any_of); }
  std::string_view letters() {
    const auto end = std::ranges::find_if_not(left_, [](char c) { return c >= 'a' && c <= 'z'; });
    const auto count = static_cast<std::size_t>(end - left_.begin());
    const std::string_view word = left_.substr(0, count);
    left_.remove_prefix(count);
    return word;
  }
  [[nodiscard]] bool at_digit() const {
    return !left_.empty() && left_[0] >= '0' && left_[0] <= '9';
  }

 private:
  unsigned digit() {
    if (!at_digit()) {
      ok_ = false;
      return 0;
    }
    const char c = left_[0];
    left_.remove_prefix(1);
    return static_cast<unsigned>(c - '0');
  }

  std::string_view left_;
  bool ok_ = true;
};

microseconds fraction(Scanner& in) {
  if (!in.accept(".")) return {};
  unsigned value = 0;
  unsigned scale = 100'000;
  int digits = 0;
  while (in.at_digit() && digits < 9) {
    value += in.number(1) * scale;
    scale /= 10;
    ++digits;
  }
  if (digits == 0) in.expect("0");
  return microseconds(value);
}

/// Reads the offset of a time zone, which must be subtracted for UTC.
minutes offset(Scanner& in) {
  if (in.accept("Zz")) return {};
  const bool east = in.accept("+");
  if (!east) in.expect("-");
  const unsigned hours = in.number(2);
  in.expect(":");
  const unsigned rest = in.number(2);
  if (hours > 23 || rest > 59) in.expect("");
  const minutes value(hours * 60 + rest);
  return east ? value : -value;
}

struct SpanUnit {
  std::string_view name;
  std::chrono::seconds length;
};
using namespace std::chrono_literals;
constexpr std::array kSpanUnits{
    SpanUnit{"s", 1s},         SpanUnit{"sec", 1s},        SpanUnit{"second", 1s},
    SpanUnit{"seconds", 1s},   SpanUnit{"m", 60s},         SpanUnit{"min", 60s},
    SpanUnit{"minute", 60s},   SpanUnit{"minutes", 60s},   SpanUnit{"h", 3600s},
    SpanUnit{"hour", 3600s},   SpanUnit{"hours", 3600s},   SpanUnit{"d", 86400s},
    SpanUnit{"day", 86400s},   SpanUnit{"days", 86400s},   SpanUnit{"w", 604800s},
    SpanUnit{"week", 604800s}, SpanUnit{"weeks", 604800s},
};
constexpr std::chrono::seconds kLongestSpan = std::chrono::hours(24 * 3653);

}  // namespace

std::optional<WallTime> parse_rfc3339(std::string_view text) {
  using namespace std::chrono;
  Scanner in(text);
  const year y(static_cast<int>(in.number(4)));
  in.expect("-");
  const month mon(in.number(2));
  in.expect("-");
  const day d(in.number(2));
  in.expect("Tt ");
  const unsigned hour = in.number(2);
  in.expect(":");
  const unsigned minute = in.number(2);
  in.expect(":");
  const unsigned second = in.number(2);  // 60 is a leap second
  const microseconds part = fraction(in);
  const minutes zone = offset(in);
  const year_month_day date(y, mon, d);
  if (!in.done() || !date.ok() || hour > 23 || minute > 59 || second > 60) return {};
  return sys_days(date) + hours(hour) + minutes(minute) + seconds(second) + part - zone;
}

std::optional<Duration> parse_span(std::string_view text) {
  Scanner in(text);
  std::chrono::seconds sum{};
  do {
    const std::uint64_t count = in.number();
    const auto unit = std::ranges::find(kSpanUnits, in.letters(), &SpanUnit::name);
    if (!in.ok() || unit == kSpanUnits.end()) return {};
    if (count > static_cast<std::uint64_t>(kLongestSpan / unit->length)) return {};
    sum += static_cast<std::int64_t>(count) * unit->length;
  } while (!in.empty());
  return sum <= kLongestSpan ? std::optional<Duration>(sum) : std::nullopt;
}

std::optional<Since> parse_since(std::string_view text, WallTime now) {
  if (text == "now") return now;
  if (text.starts_with('#')) {
    Scanner in(text.substr(1));
    const std::uint64_t number = in.number();
    return in.done() ? std::optional<Since>(number) : std::nullopt;
  }
  if (text.starts_with('-')) {
    const auto span = parse_span(text.substr(1));
    if (!span) return {};
    return now - std::chrono::duration_cast<microseconds>(*span);
  }
  if (const auto time = parse_rfc3339(text)) return *time;
  return {};
}

std::string rfc3339(WallTime time) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(time);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}Z",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(whole)),
                     (time - whole).count());
}

std::string local_time(WallTime time) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S}",
                     fmt::localtime(std::chrono::system_clock::to_time_t(
                         std::chrono::time_point_cast<std::chrono::system_clock::duration>(time))));
}

}  // namespace portfwd::ctl
