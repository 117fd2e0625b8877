
#include "broker/files.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstring>
#include <string_view>

#include "broker/sandbox.h"

namespace portfwd::broker {

namespace {

UniqueFd failed_with(int error) {
  errno = error;
  return {};
}

UniqueFd open_by_kernel(int folder, const char* path, int flags, std::uint64_t resolve) {
  // Below a folder or root ".." is refused with EAGAIN if any file of the machine is renamed at the
  // same time. Source: openat2(2); fact: OpenInRoot.DotDotFailsWhileFilesAreRenamed.
  constexpr int kMostTries = 1000;
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags);
  how.resolve = RESOLVE_NO_MAGICLINKS | resolve;
  long fd = -1;
  for (int i = 0; i < kMostTries && fd < 0 && (i == 0 || errno == EAGAIN); ++i) {
    fd = ::syscall(SYS_openat2, folder, path, &how, sizeof how);
  }
  return UniqueFd(static_cast<int>(fd));
}

/// Whether a seccomp filter rejected the call: filters answer with either of these, and the kernel
/// itself does not for these flags.
bool was_refused(const UniqueFd& opened) {
  return !opened.valid() && (errno == ENOSYS || errno == EPERM);
}

/// Whether the link is in /proc. All links there count, since magic links cannot be distinguished
/// from others. True on failure.
bool is_in_proc(int link) {
  struct statfs about {};
  return ::fstatfs(link, &about) != 0 || about.f_type == PROC_SUPER_MAGIC;
}

/// Resolution of one path. Each folder on the way is held open, and ".." is the previous one: the
/// kernel does not look it up, so a folder that is moved meanwhile does not lead out.
class Walk {
 public:
  /// @param folder where the path begins, borrowed
  /// @param beneath whether the path must not leave it; otherwise `folder` must be "/"
  Walk(int folder, bool beneath) : folder_(folder), beneath_(beneath) {}

  /// @param last_flags for opening the last component; kStepFlags: it must be a folder
  UniqueFd open(const char* path, int last_flags) {
    if (!prepend(path)) return {};
    for (;;) {
      const auto name = next();
      if (name.empty()) return UniqueFd(::openat(top(), ".", kFolderFlags));
      if (name == ".") continue;
      UniqueFd end;
      if (!(name == ".." ? go_up() : step(name, last_flags, end))) return end;
    }
  }

 private:
  [[nodiscard]] int top() const { return depth_ == 0 ? folder_ : folders_[depth_ - 1].get(); }

  [[nodiscard]] bool go_up() {
    if (depth_ == 0 && beneath_) return errno = EXDEV, false;
    if (depth_ > 0) folders_[--depth_].reset();
    return true;
  }

  /// Resolves one component.
  /// @return whether the path continues; if not, `end` is its last component, or invalid with errno
  /// set
  [[nodiscard]] bool step(std::string_view name, int last_flags, UniqueFd& end) {
    if (name.size() > NAME_MAX) return errno = ENAMETOOLONG, false;
    std::array<char, NAME_MAX + 1> text{};
    name.copy(text.data(), name.size());
    UniqueFd there(::openat(top(), text.data(), kStepFlags));
    struct stat about {};
    if (!there.valid() || ::fstat(there.get(), &about) != 0) return false;
    if (S_ISLNK(about.st_mode)) return follow_link(there.get());
    const bool last = begin_ == rest_.size();
    if (last && last_flags != kStepFlags) {
      end = UniqueFd(::openat(top(), text.data(), last_flags));
      return false;
    }
    if (!S_ISDIR(about.st_mode)) return errno = ENOTDIR, false;
    if (last) return end = std::move(there), false;
    if (depth_ == folders_.size()) return errno = ENAMETOOLONG, false;
    folders_[depth_++] = std::move(there);
    return true;
  }

  /// The next component of the path, valid until prepend(); "" at the end.
  std::string_view next() {
    const std::string_view rest(rest_.data() + begin_, rest_.size() - begin_);
    const std::size_t from = rest.find_first_not_of('/');
    if (from == rest.npos) return begin_ = rest_.size(), std::string_view();
    const std::size_t to = std::min(rest.find('/', from), rest.size());
    begin_ += to;
    return rest.substr(from, to - from);
  }

  /// Inserts the text before the rest of the path.
  [[nodiscard]] bool prepend(std::string_view text) {
    if (text.size() > begin_) return errno = ENAMETOOLONG, false;
    begin_ -= text.size();
    text.copy(rest_.data() + begin_, text.size());
    return true;
  }

  [[nodiscard]] bool follow_link(int link) {
    if (++links_ > kMostLinksOnPath || is_in_proc(link)) return errno = ELOOP, false;
    std::array<char, PATH_MAX> target;
    const ssize_t size = ::readlinkat(link, "", target.data(), target.size());
    if (size < 0) return false;
    const std::string_view text(target.data(), static_cast<std::size_t>(size));
    if (text.empty()) return errno = ENOENT, false;
    if (text.front() == '/') {
      if (beneath_) return errno = EXDEV, false;
      while (depth_ > 0) folders_[--depth_].reset();
    }
    return prepend(text);
  }

  const int folder_;
  const bool beneath_;
  std::array<UniqueFd, kMostFoldersOnPath> folders_;
  std::size_t depth_ = 0;
  int links_ = 0;
  std::array<char, PATH_MAX> rest_{};  ///< rest of the path, at the end of the array
  std::size_t begin_ = rest_.size();
};

}  // namespace

UniqueFd open_folder(const char* path) {
  UniqueFd opened = open_by_kernel(AT_FDCWD, path, kFolderFlags, 0);
  if (!was_refused(opened)) return opened;
  const UniqueFd root(::openat(AT_FDCWD, "/", kFolderFlags));
  return root.valid() ? Walk(root.get(), false).open(path, kStepFlags) : UniqueFd();
}

UniqueFd open_file_beneath(int folder, const char* path) {
  if (*path == '/') return failed_with(EXDEV);
  UniqueFd opened = open_by_kernel(folder, path, kReadFlags, RESOLVE_BENEATH);
  if (!was_refused(opened)) return opened;
  return Walk(folder, true).open(path, kLastStepFlags);
}

namespace {

/// Opens a path inside the root. Magic links are not followed: /proc inside may lead to the root of
/// any process. Source: openat2(2); facts: OpenInRoot.*.
UniqueFd open_inside(int root, const char* path, std::uint64_t flags) {
  return open_by_kernel(root, path, static_cast<int>(flags) | O_PATH | O_CLOEXEC, RESOLVE_IN_ROOT);
}

UniqueFd stream_socket() {
  return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

/// "/proc/self/fd/N" or "/proc/self/fd/N/NAME" as a socket address.
class DescriptorAddress {
 public:
  explicit DescriptorAddress(int fd, std::string_view name = {}) {
    address_.sun_family = AF_UNIX;
    append("/proc/self/fd/");
    char digits[12];
    append({digits, std::to_chars(digits, digits + sizeof digits, fd).ptr});
    if (!name.empty()) append("/"), append(name);
  }
  [[nodiscard]] bool fits() const { return fits_; }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address_); }
  static constexpr socklen_t kSize = sizeof(sockaddr_un);

 private:
  void append(std::string_view text) {
    fits_ = fits_ && size_ + text.size() < sizeof address_.sun_path;
    if (!fits_) return;
    std::memcpy(address_.sun_path + size_, text.data(), text.size());
    size_ += text.size();
  }
  sockaddr_un address_{};
  std::size_t size_ = 0;
  bool fits_ = true;
};

/// A path, split at its last slash; the directory keeps the slash.
struct Split {
  explicit Split(const char* path) {
    const std::string_view whole(path);
    const std::size_t slash = whole.rfind('/');
    std::memcpy(directory, path, slash + 1);
    name = whole.substr(slash + 1);
  }
  [[nodiscard]] bool names_an_entry() const { return !name.empty() && name != "." && name != ".."; }
  char directory[kPathSize]{};
  std::string_view name;  ///< ends with the path, so its data() is NUL-terminated
};

/// Sets the owner of the socket's path. Opens and checks it first, so that another file that has
/// taken the name meanwhile keeps its owner.
Outcome set_owner(int directory, const char* name, const Request& request) {
  const UniqueFd entry = open_inside(directory, name, O_NOFOLLOW);
  struct stat status {};
  if (!entry.valid() || ::fstat(entry.get(), &status) != 0) return failed(Step::Chown);
  if (!S_ISSOCK(status.st_mode)) return {ESTALE, Step::Chown};
  if (::fchownat(entry.get(), "", request.uid, request.gid, AT_EMPTY_PATH) != 0) {
    return failed(Step::Chown);
  }
  return {};
}

}  // namespace

Outcome unix_connect(const Request& request, int root, FdBatch& made) {
  const UniqueFd target = open_inside(root, request.path, 0);
  if (!target.valid()) return failed(Step::OpenPath);
  UniqueFd socket = stream_socket();
  if (!socket.valid()) return failed(Step::Socket);
  const DescriptorAddress address(target.get());
  if (::connect(socket.get(), address.get(), DescriptorAddress::kSize) != 0) {
    return failed(Step::Connect);
  }
  made.add(std::move(socket));
  return {};
}

Outcome unix_listen(const Request& request, int root, FdBatch& made) {
  const Split split(request.path);
  if (!split.names_an_entry()) return {EINVAL, Step::Request};
  const UniqueFd directory = open_inside(root, split.directory, O_DIRECTORY);
  if (!directory.valid()) return failed(Step::OpenPath);
  const DescriptorAddress address(directory.get(), split.name);
  if (!address.fits()) return {ENAMETOOLONG, Step::Bind};
  UniqueFd socket = stream_socket();
  if (!socket.valid()) return failed(Step::Socket);
  // bind() gives the path the socket's own mode, so it is never more permissive than requested, and
  // it does not follow a link at the path. Facts: UnixSocket.ThePathGetsTheModeOfTheSocket,
  // UnixSocket.BindNeverFollowsALinkAtTheEndOfThePath.
  if (::fchmod(socket.get(), request.mode) != 0) return failed(Step::SetOption);
  if (::bind(socket.get(), address.get(), DescriptorAddress::kSize) != 0) return failed(Step::Bind);
  Outcome outcome = set_owner(directory.get(), split.name.data(), request);
  if (outcome.ok() && ::listen(socket.get(), request.backlog) != 0) outcome = failed(Step::Listen);
  if (!outcome.ok()) {
    ::unlinkat(directory.get(), split.name.data(), 0);
    return outcome;
  }
  made.add(std::move(socket));
  return {};
}

}  // namespace portfwd::broker
