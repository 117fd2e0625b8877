// The broker's end of the socket pair: receives requests, sends replies. Owned by main for the life
// of the process. It rejects messages that are not valid requests itself; it does not know what the
// operations do.
#pragma once

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>

#include "base/unique_fd.h"
#include "broker/protocol.h"

namespace portfwd::broker {

// Results of a broker's steps: an errno with the step that failed, and the descriptors made so far.
// They are values on the stack of one request; the descriptors of a failed request are closed with
// it.
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

struct Message {
  Request request;
  UniqueFd passed;  ///< invalid when none came along
};

/// Is this a request that makes sense by itself? Pure. A terminated path is part of it.
/// @param passed whether a descriptor came along
[[nodiscard]] Outcome check(const Request& request, bool passed);

class Channel {
 public:
  /// @param socket borrowed, blocking
  explicit Channel(int socket) : socket_(socket) {}

  /// Waits for the next request that passes check(); the others are answered with an error.
  /// @return false when the daemon has gone
  [[nodiscard]] bool next(Message& message) const;

  /// @param made sent only with success; closed by its owner in any case
  /// @return false when the daemon has gone
  bool answer(std::uint32_t id, Outcome outcome, const FdBatch& made) const;

 private:
  [[nodiscard]] bool refuse(std::uint32_t id, Outcome outcome) const;
  int socket_;
};

}  // namespace portfwd::broker
