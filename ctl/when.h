// Parsing and formatting of points in time: RFC 3339, "-5min", "now", "#17". Pure functions; the
// current time is a parameter.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/clock.h"

namespace portfwd::ctl {

/// Selects events strictly after a number, or at a time or later.
using Since = std::variant<std::uint64_t, WallTime>;

[[nodiscard]] std::optional<Since> parse_since(std::string_view text, WallTime now);

/// Parses "2026-01-01T12:00:00Z", with an optional fraction of up to nine digits (truncated to
/// microseconds) and an offset such as +02:00 instead of Z. 't', 'z' and a blank instead of 'T' are
/// accepted. Source: RFC 3339, section 5.6.
[[nodiscard]] std::optional<WallTime> parse_rfc3339(std::string_view text);

/// Parses "5min", "1h30m" or "2d": s, m, h, d, w and their long names. @return none for invalid
/// text and for more than ten years
[[nodiscard]] std::optional<Duration> parse_span(std::string_view text);

[[nodiscard]] std::string rfc3339(WallTime time);     ///< "2026-01-01T12:00:00.123456Z"
[[nodiscard]] std::string local_time(WallTime time);  ///< "2026-01-01 13:00:00" in the user's zone

}  // namespace portfwd::ctl
