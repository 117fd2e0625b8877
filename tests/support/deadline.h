// How long a test waits for an expected event. Only a test that fails waits so long, so it is
// generous.
#pragma once

#include <chrono>

namespace portfwd::testing_support {

inline constexpr std::chrono::seconds kDeadline{60};

}  // namespace portfwd::testing_support
