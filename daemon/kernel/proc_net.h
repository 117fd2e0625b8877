// The files of /proc/PID/net as text: opened safely, read from the start, cut into words. Shared by
// the readers of sockstat, snmp and tcp. It knows nothing of what the files say.
#pragma once

#include <sys/types.h>

#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace portfwd::proc_net {

/// /proc/PID/net/FILE. An open one pins the namespace and goes on telling of it, whatever becomes
/// of the process. Test: ProcNetFacts.AnOpenFileOutlivesItsProcess
[[nodiscard]] Result<UniqueFd> open(pid_t pid, const char* file);

/// Whether the process is in that namespace, as far as can be seen: of another user's process it
/// cannot, and the answer is yes. @param netns 0: not known, the answer is yes
[[nodiscard]] bool is_in(pid_t pid, std::uint64_t netns);

/// @return what the file says from its start on, as much as fits into `buffer`
[[nodiscard]] Result<std::string_view> read(int fd, std::span<char> buffer);

/// The whole file from its start on, however long.
[[nodiscard]] Result<std::string> read_all(int fd);

/// Takes the next line off `text`, without its newline.
[[nodiscard]] std::string_view next_line(std::string_view& text);
/// Takes the next word off `line`; empty at the end.
[[nodiscard]] std::string_view next_word(std::string_view& line);

template <std::unsigned_integral T>
[[nodiscard]] std::optional<T> number(std::string_view word, int base = 10) {
  T value{};
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value, base);
  if (error != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  return value;
}

}  // namespace portfwd::proc_net
