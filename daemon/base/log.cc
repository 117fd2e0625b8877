#include "base/log.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "base/text.h"
#include "base/unique_fd.h"

namespace portfwd::log {

namespace {

Level g_level = Level::Info;

/// $JOURNAL_STREAM names the device and inode of the journal's socket. When stderr differs, it was
/// redirected. Source: systemd.exec(5).
bool stderr_is_journal() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat st {};
  if (stream == nullptr || ::fstat(STDERR_FILENO, &st) != 0) return false;
  return fmt::format("{}:{}", st.st_dev, st.st_ino) == stream;
}

/// An entry whose values are one line each: printable() leaves no newline.
/// Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL
std::string journal_entry(Level level, std::string_view line, const Fields& fields) {
  std::string entry = fmt::format("MESSAGE={}\nPRIORITY={}\nSYSLOG_IDENTIFIER=portfwd\n", line,
                                  static_cast<int>(level));
  for (const auto& [name, value] : fields) entry += fmt::format("{}={}\n", name, printable(value));
  return entry;
}

bool send_to_journal(std::string_view entry) {
  static const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  constexpr sockaddr_un kJournal{AF_UNIX, "/run/systemd/journal/socket"};
  const ssize_t sent =
      ::sendto(socket.get(), entry.data(), entry.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&kJournal), sizeof kJournal);
  return sent >= 0 || errno != EAGAIN;
}

/// Opens stderr again: O_NONBLOCK on stderr itself would affect every process that shares it.
bool send_to_pipe_or_terminal(std::string_view line) {
  constexpr int kFlags = O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  const UniqueFd again(::open("/proc/self/fd/2", kFlags));
  pollfd room{STDERR_FILENO, POLLOUT, 0};
  if (!again.valid() && ::poll(&room, 1, 0) == 0) return false;  // another user's terminal
  const int fd = again.valid() ? again.get() : STDERR_FILENO;
  return ::write(fd, line.data(), line.size()) >= 0 || errno != EAGAIN;
}

bool send_to_stderr(std::string_view line) {
  struct stat st {};
  if (::fstat(STDERR_FILENO, &st) != 0) return true;
  if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) return send_to_pipe_or_terminal(line);
  if (S_ISSOCK(st.st_mode)) {
    return ::send(STDERR_FILENO, line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ||
           errno != EAGAIN;
  }
  (void)!::write(STDERR_FILENO, line.data(), line.size());
  return true;
}

bool to_journal() {
  static const bool journal = stderr_is_journal();
  return journal;
}

std::string entry_of(Level level, std::string_view message, const Fields& fields) {
  const std::string line = printable(message);
  return to_journal() ? journal_entry(level, line, fields) : fmt::format("portfwd: {}\n", line);
}

LineQueue& queue() {
  static LineQueue lines(to_journal() ? send_to_journal : send_to_stderr, [](std::uint64_t count) {
    return entry_of(Level::Warning,
                    fmt::format("dropped {} lines of the log: its reader is too slow", count), {});
  });
  return lines;
}

}  // namespace

void set_level(Level level) {
  g_level = level;
}
bool enabled(Level level) {
  return level <= g_level;
}

std::optional<Level> parse_level(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, Level>, 5> kLevels{{
      {"error", Level::Error},
      {"warning", Level::Warning},
      {"notice", Level::Notice},
      {"info", Level::Info},
      {"debug", Level::Debug},
  }};
  for (const auto& [known, level] : kLevels) {
    if (known == name) return level;
  }
  return std::nullopt;
}

void write(Level level, std::string_view message, const Fields& fields) {
  if (enabled(level)) queue().put(entry_of(level, message, fields));
}

bool flush() {
  return queue().flush();
}

}  // namespace portfwd::log
