#include "kernel/proc_net.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

namespace portfwd::proc_net {

Result<UniqueFd> open(pid_t pid, const char* file) {
  UniqueFd fd(::open(fmt::format("/proc/{}/net/{}", pid, file).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return fail("open(/proc/PID/net)");
  return fd;
}

bool is_in(pid_t pid, std::uint64_t netns) {
  struct stat st {};
  if (netns == 0) return true;
  if (::stat(fmt::format("/proc/{}/ns/net", pid).c_str(), &st) != 0) return errno == EACCES;
  return st.st_ino == netns;
}

Result<std::string_view> read(int fd, std::span<char> buffer) {
  std::size_t filled = 0;
  while (filled < buffer.size()) {
    const ssize_t n =
        ::pread(fd, buffer.data() + filled, buffer.size() - filled, static_cast<off_t>(filled));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail("pread(/proc/PID/net)");
    if (n == 0) break;
    filled += static_cast<std::size_t>(n);
  }
  return std::string_view(buffer.data(), filled);
}

Result<std::string> read_all(int fd) {
  std::string text(16384, '\0');
  while (true) {
    const auto got = read(fd, text);
    if (!got) return std::unexpected(got.error());
    if (got->size() < text.size()) {
      text.resize(got->size());
      return text;
    }
    text.resize(text.size() * 4);
  }
}

std::string_view next_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

std::string_view next_word(std::string_view& line) {
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  const std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(word.size());
  return word;
}

}  // namespace portfwd::proc_net
