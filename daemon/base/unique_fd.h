// An owned file descriptor: closes it when it dies. A raw `int fd` parameter borrows,
// `UniqueFd` by value takes. It knows nothing of what the descriptor is.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <utility>

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

}  // namespace portfwd
