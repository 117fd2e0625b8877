#include "ctl/browser.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "ctl/failure.h"

namespace portfwd::ctl {

bool is_web_address(std::string_view url) {
  if (!url.starts_with("http://") && !url.starts_with("https://")) return false;
  return std::ranges::all_of(url, [](char c) { return c > ' ' && c < '\x7f' && c != '"'; });
}

void open_in_browser(const std::string& url) {
  if (!is_web_address(url)) {
    throw Failure(Status::Failed, "this forward has no web address to open");
  }
  std::string program = "xdg-open";
  std::string argument = url;
  const std::array<char*, 3> arguments{program.data(), argument.data(), nullptr};
  pid_t pid = 0;
  if (const int error =
          ::posix_spawnp(&pid, program.c_str(), nullptr, nullptr, arguments.data(), environ)) {
    throw Failure(Status::Failed, fmt::format("cannot run xdg-open: {}; install xdg-utils, or open "
                                              "{} yourself",
                                              std::strerror(error), url));
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    throw Failure(Status::Failed, fmt::format("xdg-open failed; open {} yourself", url));
  }
}

}  // namespace portfwd::ctl
