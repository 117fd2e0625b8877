// Points in time as people and JSON write them: RFC 3339, "-5min", "now", "#17". Pure; the present
// is a parameter.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/clock.h"

namespace portfwd::ctl {

/// Events strictly after a number, or from a time on.
using Since = std::variant<std::uint64_t, WallTime>;

[[nodiscard]] std::optional<Since> parse_since(std::string_view text, WallTime now);

/// "2026-01-01T12:00:00Z", a fraction of up to nine digits, an offset such as +02:00 in place of Z;
/// 't', 'z' and a blank are taken too. Source: RFC 3339, section 5.6.
[[nodiscard]] std::optional<WallTime> parse_rfc3339(std::string_view text);

/// "5min", "1h30m", "2d": s, m, h, d, w and their long names. Nothing for a time beyond ten years.
[[nodiscard]] std::optional<Duration> parse_span(std::string_view text);

[[nodiscard]] std::string rfc3339(WallTime time);     ///< "2026-01-01T12:00:00.123456Z"
[[nodiscard]] std::string local_time(WallTime time);  ///< "2026-01-01 13:00:00" in the user's zone

}  // namespace portfwd::ctl
