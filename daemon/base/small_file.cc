#include "base/small_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/unique_fd.h"

namespace portfwd {

namespace {

using Kind = UnreadableFile::Kind;

std::unexpected<UnreadableFile> unreadable(Kind kind, Error error = {}, std::size_t limit = 0) {
  return std::unexpected(UnreadableFile{kind, error, limit});
}

std::unexpected<UnreadableFile> not_opened(const char* path, int code) {
  struct stat link {};
  const Error error{code, "open"};
  if (code == ENXIO) return unreadable(Kind::Socket);  // open(2)
  if (code == ENOTDIR) return unreadable(Kind::NoFolder, error);
  if (code != ENOENT) return unreadable(Kind::Failed, error);
  const bool dangling = ::lstat(path, &link) == 0 && S_ISLNK(link.st_mode);
  return unreadable(dangling ? Kind::DanglingLink : Kind::Missing, error);
}

Kind kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return Kind::Folder;
  if (S_ISFIFO(mode)) return Kind::Pipe;
  return S_ISSOCK(mode) ? Kind::Socket : Kind::Device;
}

}  // namespace

std::string UnreadableFile::text() const {
  switch (kind) {
    case Kind::NoFolder:
      return "a part of its path is a file, not a folder; move that file away or name another path";
    case Kind::DanglingLink:
      return "it is a link to a file that does not exist; correct the link or remove it";
    case Kind::Folder:
      return "it is a folder, not a file; move it away or name a file in it";
    case Kind::Pipe:
      return "it is a named pipe, not a regular file; copy what it gives to a file";
    case Kind::Device:
      return "it is a device, not a regular file; put a file in its place";
    case Kind::Socket:
      return "it is a socket, not a regular file; put a file in its place";
    case Kind::TooLarge:
      return fmt::format("it has more than {} KiB; make it smaller", limit >> 10);
    case Kind::Missing:
    case Kind::Failed:
      return error.text();
  }
  return "";
}

/// O_NONBLOCK: a pipe without a writer must not be waited for. O_NOCTTY: a terminal must not
/// become the daemon's own. Source: open(2).
std::expected<std::string, UnreadableFile> read_small_file(const std::string& path,
                                                           std::size_t limit, Links links) {
  const int follow = links == Links::Follow ? 0 : O_NOFOLLOW;
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | follow));
  if (!fd.valid()) return not_opened(path.c_str(), errno);
  struct stat about {};
  if (::fstat(fd.get(), &about) != 0) return unreadable(Kind::Failed, {errno, "fstat"});
  if (!S_ISREG(about.st_mode)) return unreadable(kind_of(about.st_mode));
  const auto told = static_cast<std::size_t>(about.st_size);
  if (told > limit) return unreadable(Kind::TooLarge, {}, limit);
  std::string text(told + 1, '\0');  // and one byte more: it can have grown, or tell no size
  std::size_t size = 0;
  for (;;) {
    const ssize_t got = ::read(fd.get(), text.data() + size, text.size() - size);
    if (got < 0) return unreadable(Kind::Failed, {errno, "read"});
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
    if (size > limit) return unreadable(Kind::TooLarge, {}, limit);
    if (size == text.size()) text.resize(std::min(limit + 1, std::max(size * 2, size + 4096)));
  }
  text.resize(size);
  return text;
}

}  // namespace portfwd
