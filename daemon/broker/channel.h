// The broker's end of the socket pair: receives requests and sends replies. Owned by main for the
// lifetime of the process. It rejects invalid requests; it does not know what the operations do.
#pragma once

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>

#include "base/unique_fd.h"
#include "broker/protocol.h"

namespace portfwd::broker {

// Result of a step of a broker: an errno and the step that failed. A value on the stack of one
// request.
struct [[nodiscard]] Outcome {
  int error = 0;  ///< 0 or a positive errno
  Step step = Step::None;
  [[nodiscard]] bool ok() const { return error == 0; }
};

/// The failure of a step, as in `return failed(Step::Bind);` right after the call that set errno.
inline Outcome failed(Step step, int error = errno) {
  return {error, step};
}

/// Up to kMaxCount owned descriptors, as an array for SCM_RIGHTS. On the stack of one request:
/// closed at its end, whether they were sent or not.
class FdBatch {
 public:
  FdBatch() = default;
  FdBatch(const FdBatch&) = delete;
  FdBatch& operator=(const FdBatch&) = delete;
  ~FdBatch() {
    for (std::size_t i = 0; i < size_; ++i) ::close(fds_[i]);
  }

  /// Adds a descriptor. A full batch closes it; a valid request does not need that many.
  void add(UniqueFd fd) {
    if (size_ < fds_.size()) fds_[size_++] = fd.release();
  }
  [[nodiscard]] const int* data() const { return fds_.data(); }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  std::array<int, kMaxCount> fds_{};
  std::size_t size_ = 0;
};

/// What a reply says about files. On the stack of one request.
struct FileReport {
  FileKind found = FileKind::None;
  BoundFile bound;
};

struct Message {
  Request request;
  UniqueFd passed;  ///< invalid when the message had no descriptor
};

/// Checks a request by itself, including that its path is terminated. Pure.
/// @param passed whether the message had a descriptor
[[nodiscard]] Outcome check(const Request& request, bool passed);

class Channel {
 public:
  /// @param socket borrowed, blocking
  explicit Channel(int socket) : socket_(socket) {}

  /// Waits for the next request that passes check(); answers others with an error.
  /// @return false when the daemon has closed its end
  [[nodiscard]] bool next(Message& message) const;

  /// @param made sent only with success; its owner closes the descriptors
  /// @param file sent in any case
  /// @return false when the daemon has closed its end
  bool answer(std::uint32_t id, Outcome outcome, const FdBatch& made,
              const FileReport& file = {}) const;

 private:
  [[nodiscard]] bool refuse(std::uint32_t id, Outcome outcome) const;
  int socket_;
};

}  // namespace portfwd::broker
