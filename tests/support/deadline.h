// How long a test waits for what must come: only a broken one waits so long, so it is generous.
#pragma once

#include <chrono>

namespace portfwd::testing_support {

inline constexpr std::chrono::seconds kDeadline{60};

}  // namespace portfwd::testing_support
