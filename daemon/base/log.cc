#include "base/log.h"

#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "base/text.h"

namespace portfwd::log {

namespace {

Level g_level = Level::Info;

/// $JOURNAL_STREAM names the device and inode of the journal's end of our stderr; a mismatch means
/// that stderr was redirected. Source: systemd.exec(5).
bool stderr_is_journal() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat st {};
  if (stream == nullptr || ::fstat(STDERR_FILENO, &st) != 0) return false;
  return fmt::format("{}:{}", st.st_dev, st.st_ino) == stream;
}

void write_journal(Level level, std::string_view message, const Fields& fields) {
  std::vector<std::string> lines;
  lines.reserve(fields.size() + 3);
  lines.push_back(fmt::format("MESSAGE={}", message));
  lines.push_back(fmt::format("PRIORITY={}", static_cast<int>(level)));
  lines.emplace_back("SYSLOG_IDENTIFIER=portfwd");
  for (const auto& [name, value] : fields)
    lines.push_back(fmt::format("{}={}", name, printable(value)));
  std::vector<iovec> parts;
  parts.reserve(lines.size());
  for (std::string& line : lines) parts.push_back({line.data(), line.size()});
  (void)::sd_journal_sendv(parts.data(), static_cast<int>(parts.size()));
}

void write_stderr(std::string_view message) {
  const std::string line = fmt::format("portfwd: {}\n", message);
  (void)!::write(STDERR_FILENO, line.data(), line.size());
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
  if (!enabled(level)) return;
  static const bool kJournal = stderr_is_journal();
  const std::string line = printable(message);
  if (kJournal) {
    write_journal(level, line, fields);
  } else {
    write_stderr(line);
  }
}

}  // namespace portfwd::log
