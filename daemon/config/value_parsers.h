// The small languages inside configuration values: durations and port ranges.
// Pure functions on text.
#pragma once

#include <optional>
#include <string_view>

#include "base/clock.h"
#include "config/settings.h"

namespace portfwd {

/// "250ms", "2s", "1min", "0s"; units us, ms, s, min, h; at most a day, never negative.
[[nodiscard]] std::optional<Duration> parse_duration(std::string_view text);

/// "8080" or "5000-6000", first <= last.
[[nodiscard]] std::optional<PortRange> parse_port_range(std::string_view text);

}  // namespace portfwd
