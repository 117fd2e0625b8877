// The daemon's answers laid out for people. Pure: values in, text out. What a container chose
// itself (its name, the name of a program) is shown without control characters. Nothing depends on
// a fact being there.
#pragma once

#include <string>
#include <vector>

#include "client/values.h"

namespace portfwd::ctl {

[[nodiscard]] std::string forwards_table(const std::vector<client::Forward>& forwards, bool colour);
[[nodiscard]] std::string containers_table(const std::vector<client::Container>& containers,
                                           bool colour);
/// One line, newline included.
[[nodiscard]] std::string event_line(const client::Event& event, bool colour);
/// "127.0.0.1:8080 -> web:80"
[[nodiscard]] std::string forward_text(const client::Forward& forward);

/// The ending of a fact's key names its unit, as in memory_bytes or poll_cost_usec.
[[nodiscard]] std::string explanation_text(const client::Explanation& explanation, bool colour);
[[nodiscard]] std::string status_text(const client::Status& status, bool colour);
/// A line about a shortage of descriptors; "" when there is none.
[[nodiscard]] std::string shortage_line(const client::Status& status);

/// "7.5 MiB"
[[nodiscard]] std::string bytes_text(double bytes);
/// "44 µs", "20 ms", "1.5 s", "3 h 5 min"
[[nodiscard]] std::string span_text(double seconds);

}  // namespace portfwd::ctl
