// An owned file descriptor: closes it when it dies. A raw `int fd` parameter borrows,
// `UniqueFd` by value takes. It knows nothing of what the descriptor is.
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace portfwd {

class UniqueFd {
 public:
  constexpr UniqueFd() noexcept = default;
  explicit constexpr UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    UniqueFd old(std::exchange(fd_, std::exchange(other.fd_, -1)));  // self-move is harmless
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() {
    if (fd_ < 0) return;
    const int saved = errno;  // the caller may be about to report it
    ::close(fd_);             // no retry: Linux has released the number even on EINTR
    errno = saved;
  }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool valid() const noexcept { return fd_ >= 0; }
  /// Gives up ownership; the caller closes it.
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void reset() noexcept { UniqueFd old(std::exchange(fd_, -1)); }

 private:
  int fd_ = -1;
};

// How many descriptors this process may have, and from which number on they are short. The kernel
// gives the lowest free number, so the number of a new one tells how many are in use. A value;
// whoever makes descriptors by the dozen asks it: the gate before accept(2), the pools of sockets.
//
//   descriptors in use   0 ─────── short_from = all − 2 × reserve ─────── reserve_from ─────── all
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
