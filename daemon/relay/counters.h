// What flowed through one forward. Owned by its ForwardPort, counted up by relays as it happens.
#pragma once

#include <cstdint>

namespace portfwd {

struct Counters {
  std::uint64_t active = 0;
  std::uint64_t total = 0;
  std::uint64_t failed = 0;    ///< the target refused or did not answer
  std::uint64_t refused = 0;   ///< we did: another user, or one that could not be identified
  std::uint64_t bytes_in = 0;  ///< towards the container
  std::uint64_t bytes_out = 0;

  friend bool operator==(const Counters&, const Counters&) = default;
};

}  // namespace portfwd
