// Lines of the log that had no room: a reader that is slow, or has stopped, must not stop the
// daemon. They wait, kMostBytes of them at most, and keep their order; what has no place here
// either is left out and counted. Owned by log.cc, which knows how a line is written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace portfwd::log {

class LineQueue {
 public:
  static constexpr std::size_t kMostBytes = 1 << 20;

  /// Writes one line without waiting. @return false when there is no room for it now
  using Send = std::function<bool(std::string_view line)>;
  /// @param left_out makes the line that says how many were left out
  LineQueue(Send send, std::function<std::string(std::uint64_t count)> left_out)
      : send_(std::move(send)), left_out_(std::move(left_out)) {}

  void put(std::string line) {
    if (flush() && send_(line)) return;
    if (lost_ > 0 || bytes_ + line.size() > kMostBytes) {
      ++lost_;
      return;
    }
    bytes_ += line.size();
    waiting_.push_back(std::move(line));
  }
  /// @return whether nothing waits any more
  bool flush() {
    while (!waiting_.empty()) {
      if (!send_(waiting_.front())) return false;
      bytes_ -= waiting_.front().size();
      waiting_.pop_front();
    }
    if (lost_ > 0 && send_(left_out_(lost_))) lost_ = 0;
    return lost_ == 0;
  }

 private:
  Send send_;
  std::function<std::string(std::uint64_t)> left_out_;
  std::deque<std::string> waiting_;
  std::size_t bytes_ = 0;
  std::uint64_t lost_ = 0;  ///< since the last one that waits
};

}  // namespace portfwd::log
