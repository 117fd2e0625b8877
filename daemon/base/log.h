// Logging: one line for each fact, with structured fields to the journal when stderr is the
// journal, else as text to stderr. Writing never blocks: lines that cannot be written wait in a
// LineQueue, which the event loop flushes. The level and that queue are the program's only globals.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace portfwd::log {

enum class Level {
  Error = 3,
  Warning = 4,
  Notice = 5,
  Info = 6,
  Debug = 7
};  // syslog(3)'s numbers

/// A journal field besides the message, such as {"PORTFWD_PORT", "8080"}. See
/// systemd.journal-fields(7).
using Field = std::pair<std::string_view, std::string>;
using Fields = std::vector<Field>;

void set_level(Level level);
[[nodiscard]] bool enabled(Level level);
/// @return nothing when `name` is not error, warning, notice, info or debug
[[nodiscard]] std::optional<Level> parse_level(std::string_view name);

/// Writes one line. Control characters become '?', since a container chooses its own name. Stderr
/// shows only the message; `fields` go to the journal.
void write(Level level, std::string_view message, const Fields& fields = {});

/// Writes the lines that are waiting. @return whether none is left
bool flush();

template <class... A>
void error(fmt::format_string<A...> f, A&&... a) {
  if (enabled(Level::Error)) write(Level::Error, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void warning(fmt::format_string<A...> f, A&&... a) {
  if (enabled(Level::Warning)) write(Level::Warning, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void info(fmt::format_string<A...> f, A&&... a) {
  if (enabled(Level::Info)) write(Level::Info, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void debug(fmt::format_string<A...> f, A&&... a) {
  if (enabled(Level::Debug)) write(Level::Debug, fmt::format(f, std::forward<A>(a)...));
}

/// Known kinds of event. Each has its own MESSAGE_ID in the journal (`journalctl MESSAGE_ID=`). The
/// ids are part of the outside contract and are listed in portfwd(8).
namespace message_id {
inline constexpr std::string_view kPortAdded = "4b8e2d6f0c7e4d6e9a5c1f2b7d3a9e01";
inline constexpr std::string_view kPortRemoved = "4b8e2d6f0c7e4d6e9a5c1f2b7d3a9e02";
inline constexpr std::string_view kPortRemapped = "4b8e2d6f0c7e4d6e9a5c1f2b7d3a9e03";
inline constexpr std::string_view kPortConflict = "4b8e2d6f0c7e4d6e9a5c1f2b7d3a9e04";
inline constexpr std::string_view kContainerAdded = "4b8e2d6f0c7e4d6e9a5c1f2b7d3a9e05";
inline constexpr std::string_view kContainerRemoved = "4b8e2d6f0c7e4d6e9a5c1f2b7d3a9e06";
inline constexpr std::string_view kLimitReached = "4b8e2d6f0c7e4d6e9a5c1f2b7d3a9e07";
inline constexpr std::string_view kClientRefused = "4b8e2d6f0c7e4d6e9a5c1f2b7d3a9e08";
inline constexpr std::string_view kBrokerFailed = "4b8e2d6f0c7e4d6e9a5c1f2b7d3a9e09";
inline constexpr std::string_view kConfiguration = "4b8e2d6f0c7e4d6e9a5c1f2b7d3a9e0a";
inline constexpr std::string_view kState = "4b8e2d6f0c7e4d6e9a5c1f2b7d3a9e0b";
inline constexpr std::string_view kOpenToOthers = "4b8e2d6f0c7e4d6e9a5c1f2b7d3a9e0c";
}  // namespace message_id

// Log lines that could not be written yet: a reader that is slow or has stopped must not stop the
// daemon. Keeps at most kMostBytes in order; further lines are dropped and counted. Owned by
// log.cc, which knows how a line is written.
class LineQueue {
 public:
  static constexpr std::size_t kMostBytes = 1 << 20;

  /// Writes one line without blocking. @return false when it cannot be written now
  using Send = std::function<bool(std::string_view line)>;
  /// @param left_out makes the line that says how many were dropped
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
  /// @return whether none is left
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
  std::uint64_t lost_ = 0;  ///< dropped and not reported yet
};

}  // namespace portfwd::log
