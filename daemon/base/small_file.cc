#include "base/small_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/unique_fd.h"

namespace portfwd {

namespace {

/// The error of a failed open(2), which fails with ENXIO for a socket. Distinguishes a dangling
/// link from a file that does not exist.
std::unexpected<Error> open_error(const char* path, int code) {
  struct stat link {};
  const bool dangling = code == ENOENT && ::lstat(path, &link) == 0 && S_ISLNK(link.st_mode);
  return fail(dangling ? kFollowLink : "open", code);
}

/// The error code for a file that is not a regular one.
int code_of(mode_t mode) {
  if (S_ISDIR(mode)) return EISDIR;
  if (S_ISFIFO(mode)) return ESPIPE;
  return S_ISSOCK(mode) ? ENXIO : ENODEV;
}

}  // namespace

std::string unreadable_reason(const Error& error, std::size_t limit) {
  switch (error.code) {
    case ENOTDIR:
      return "a part of its path is a file, not a folder; move that file away or use another path";
    case EISDIR:
      return "it is a folder, not a file; move it away or use a file in it";
    case ESPIPE:
      return "it is a named pipe, not a regular file; copy its contents to a regular file";
    case ENODEV:
      return "it is a device, not a regular file; put a file in its place";
    case ENXIO:
      return "it is a socket or a device, not a regular file; put a file in its place";
    case EACCES:
      return fmt::format("{}; make it readable by this user", error.text());
    case EFBIG:
      return fmt::format("it is larger than {} KiB; make it smaller", limit >> 10);
    case ENOENT:
      if (error.op == kFollowLink)
        return "it is a link to a file that does not exist; correct the link or remove it";
      break;
    default:
      break;
  }
  return error.text();
}

/// O_NONBLOCK: opening a named pipe must not wait for a writer. O_NOCTTY: a terminal must not
/// become the daemon's controlling terminal. Source: open(2).
Result<std::string> read_small_file(const std::string& path, std::size_t limit, Links links) {
  const int follow = links == Links::Follow ? 0 : O_NOFOLLOW;
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | follow));
  if (!fd.valid()) return open_error(path.c_str(), errno);
  struct stat about {};
  if (::fstat(fd.get(), &about) != 0) return fail("fstat");
  if (!S_ISREG(about.st_mode)) return fail("open", code_of(about.st_mode));
  const auto reported_size = static_cast<std::size_t>(about.st_size);
  if (reported_size > limit) return fail("read", EFBIG);
  std::string text(reported_size + 1, '\0');  // one byte more: the file may grow, or report size 0
  std::size_t size = 0;
  for (;;) {
    const ssize_t got = ::read(fd.get(), text.data() + size, text.size() - size);
    if (got < 0) return fail("read");
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
    if (size > limit) return fail("read", EFBIG);
    if (size == text.size()) text.resize(std::min(limit + 1, std::max(size * 2, size + 4096)));
  }
  text.resize(size);
  return text;
}

}  // namespace portfwd
