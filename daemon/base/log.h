// The daemon's voice: one line a fact. To the journal with structured fields when stderr is the
// journal, else to stderr. It waits for no reader: lines that have no room wait in a LineQueue, and
// the loop flushes it. The level and that queue are the only globals of the program.
#pragma once

#include <fmt/format.h>

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

/// A journal field beyond the message, such as {"PORTFWD_PORT", "8080"}. See
/// systemd.journal-fields(7).
using Field = std::pair<std::string_view, std::string>;
using Fields = std::vector<Field>;

void set_level(Level level);
[[nodiscard]] bool enabled(Level level);
/// @return nothing when `name` is none of error, warning, notice, info, debug.
[[nodiscard]] std::optional<Level> parse_level(std::string_view name);

/// Writes one line: control characters (a container chose its name itself) become '?'.
/// On stderr only the message is shown; `fields` go to the journal.
void write(Level level, std::string_view message, const Fields& fields = {});

/// Writes what has had no room. @return whether nothing waits any more
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

/// Known kinds of event; each has a MESSAGE_ID of its own in the journal (`journalctl
/// MESSAGE_ID=`). The ids are part of the outside contract and are listed in portfwd(8).
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

}  // namespace portfwd::log
