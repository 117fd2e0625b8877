// File descriptors: an owned one, and the limits on their number. A raw `int fd` parameter borrows
// a descriptor, a `UniqueFd` passed by value transfers ownership.
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
  /// Gives up ownership; the caller must close the descriptor.
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void reset() noexcept { UniqueFd old(std::exchange(fd_, -1)); }

 private:
  int fd_ = -1;
};

/// Remedy for a shortage of descriptors, for messages.
inline constexpr std::string_view kMoreDescriptors =
    "raise LimitNOFILE= of the unit, or end other forwards or connections";

/// Whether the operation failed because this process or the machine has no free descriptor.
[[nodiscard]] inline bool is_descriptor_shortage(const Error& error) {
  return error.code == EMFILE || error.code == ENFILE;
}

/// For the end of a log line: "; REMEDY" after a shortage, else "".
[[nodiscard]] inline std::string and_remedy_of_shortage(const Error& error) {
  return is_descriptor_shortage(error) ? "; " + std::string(kMoreDescriptors) : "";
}

// The number of descriptors that this process may have, and the numbers from which on they are
// short. The kernel assigns the lowest free number, so the number of a new descriptor tells how
// many are in use. A value, for code that opens many descriptors: the gate before accept(2), the
// pools of sockets.
//
//   descriptors in use   0 ─────── short_from = all − 2 × reserve ─────── reserve_from ─────── all
struct DescriptorLimits {
  /// Descriptors that clients cannot use; as many again are those from which on descriptors are
  /// short. An eighth of the limit if that is less.
  static constexpr int kReserve = 256;
  static constexpr int kNone = std::numeric_limits<int>::max();

  int short_from = kNone;
  int reserve_from = kNone;

  /// Derived from RLIMIT_NOFILE, which must have been raised before.
  [[nodiscard]] static DescriptorLimits read() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return {};
    const int all = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, kNone));
    const int reserve = std::min(all / 8, kReserve);
    return {all - 2 * reserve, all - reserve};
  }
};

}  // namespace portfwd
