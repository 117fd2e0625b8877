// Named values that parts of the daemon tell about themselves, for `status` and `explain`. Keys are
// lower_snake_case, part of the outside contract, and only ever added to.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace portfwd {

using Fact = std::variant<bool, std::int64_t, double, std::string, std::vector<std::string>>;
using Facts = std::map<std::string, Fact>;

}  // namespace portfwd
