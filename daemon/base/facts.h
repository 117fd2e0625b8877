// Named values with which parts of the daemon describe themselves, for `status` and `explain`. Keys
// are lower_snake_case and part of the outside contract: keys are added, never renamed or removed.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "base/remedy.h"

namespace portfwd {

using Fact = std::variant<bool, std::int64_t, double, std::string, std::vector<std::string>,
                          std::vector<Remedy>>;
using Facts = std::map<std::string, Fact>;

}  // namespace portfwd
