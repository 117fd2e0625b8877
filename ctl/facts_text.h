// The answers of `explain` and `status` for people: a dictionary whose keys only grow, so nothing
// here depends on a key being there. A key's ending names its unit, as in memory_bytes or
// poll_cost_usec.
#pragma once

#include <string>

#include "ctl/objects.h"

namespace portfwd::ctl {

[[nodiscard]] std::string explanation(const Json& facts, bool colour);
[[nodiscard]] std::string status_text(const Json& facts, bool colour);

/// "7.5 MiB"
[[nodiscard]] std::string bytes_text(double bytes);
/// "44 µs", "20 ms", "1.5 s", "3 h 5 min"
[[nodiscard]] std::string span_text(double seconds);

/// What a status says of a shortage of descriptors, a line with its end; "" when there is none.
[[nodiscard]] std::string shortage_line(const Json& status);

}  // namespace portfwd::ctl
