// How a broker's steps report: an errno with the step that met it, and the descriptors made so far.
// Values on the stack of one request; whatever a failed request has made dies with it.
#pragma once

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>

#include "base/unique_fd.h"
#include "broker/protocol.h"

namespace portfwd::broker {

struct [[nodiscard]] Outcome {
  int error = 0;  ///< 0 or a positive errno
  Step step = Step::None;
  [[nodiscard]] bool ok() const { return error == 0; }
};

/// `return failed(Step::Bind);` right after the call that set errno.
inline Outcome failed(Step step, int error = errno) {
  return {error, step};
}

/// Up to kMaxCount owned descriptors, in the form that SCM_RIGHTS wants.
class FdBatch {
 public:
  FdBatch() = default;
  FdBatch(const FdBatch&) = delete;
  FdBatch& operator=(const FdBatch&) = delete;
  ~FdBatch() {
    for (std::size_t i = 0; i < size_; ++i) ::close(fds_[i]);
  }

  /// A full batch closes what it is given; no request asks for that many.
  void add(UniqueFd fd) {
    if (size_ < fds_.size()) fds_[size_++] = fd.release();
  }
  [[nodiscard]] const int* data() const { return fds_.data(); }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  std::array<int, kMaxCount> fds_{};
  std::size_t size_ = 0;
};

}  // namespace portfwd::broker
