// What the daemon told, laid out for people. Pure: JSON in, text out. Whatever a container chose
// itself (its name, a program's name) is shown without control characters.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ctl/objects.h"

namespace portfwd::ctl {

[[nodiscard]] std::string forwards_table(const std::vector<Object>& forwards, bool colour);
[[nodiscard]] std::string containers_table(const std::vector<Object>& containers, bool colour);
/// One line, newline included.
[[nodiscard]] std::string event_line(const Json& event, bool colour);
/// "127.0.0.1:8080 -> web:80"
[[nodiscard]] std::string forward_text(const Json& forward);

}  // namespace portfwd::ctl
