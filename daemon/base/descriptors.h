// How many descriptors this process may have, and from which number on they are short. The kernel
// gives the lowest free number, so the number of a new one tells how many are in use. A value;
// whoever makes descriptors by the dozen asks it: the gate before accept(2), the pools of sockets.
//
//   descriptors in use   0 ─────── short_from = all − 2 × reserve ─────── reserve_from ─────── all
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>

#include "base/error.h"

namespace portfwd {

/// What ends a shortage of them.
inline constexpr std::string_view kMoreDescriptors =
    "raise LimitNOFILE= of the unit, or end other forwards or connections";

/// Whether there is no descriptor left, of this process's or of the machine's.
[[nodiscard]] inline bool is_descriptor_shortage(const Error& error) {
  return error.code == EMFILE || error.code == ENFILE;
}

/// For the end of a line of the log: "; REMEDY" after a shortage, else "".
[[nodiscard]] inline std::string and_remedy_of_shortage(const Error& error) {
  return is_descriptor_shortage(error) ? "; " + std::string(kMoreDescriptors) : "";
}

struct DescriptorLimits {
  /// Kept for everybody but clients, and as many again while they are short; less with a low limit.
  static constexpr int kReserve = 256;
  static constexpr int kNone = std::numeric_limits<int>::max();

  int short_from = kNone;
  int reserve_from = kNone;

  /// Of RLIMIT_NOFILE, which is to be raised before.
  [[nodiscard]] static DescriptorLimits read() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return {};
    const int all = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, kNone));
    const int reserve = std::min(all / 8, kReserve);
    return {all - 2 * reserve, all - reserve};
  }
};

}  // namespace portfwd
