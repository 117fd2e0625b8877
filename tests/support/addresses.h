// Endpoints as addresses, for functions that accept addresses of any kind.
#pragma once

#include <span>
#include <vector>

#include "net/address.h"

namespace portfwd::testing_support {

[[nodiscard]] inline std::vector<Address> addresses(std::span<const Endpoint> endpoints) {
  return {endpoints.begin(), endpoints.end()};
}
[[nodiscard]] inline std::vector<Address> addresses(const Endpoint& endpoint) {
  return {endpoint};
}

}  // namespace portfwd::testing_support
