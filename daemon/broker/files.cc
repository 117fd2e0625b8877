
#include "broker/files.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include <array>
#include <cerrno>
#include <climits>
#include <string_view>

#include "broker/sandbox.h"

namespace portfwd::broker {

UniqueFd open_by_kernel(int folder, const char* path, std::uint64_t flags, std::uint64_t resolve) {
  // Below a folder or root ".." is refused with EAGAIN if any file of the machine is renamed at the
  // same time. Source: openat2(2); fact: OpenInRoot.DotDotFailsWhileFilesAreRenamed.
  constexpr int kMostTries = 1000;
  open_how how{};
  how.flags = flags | O_CLOEXEC;
  how.resolve = RESOLVE_NO_MAGICLINKS | resolve;
  long fd = -1;
  for (int i = 0; i < kMostTries && fd < 0 && (i == 0 || errno == EAGAIN); ++i) {
    fd = ::syscall(SYS_openat2, folder, path, &how, sizeof how);
  }
  return UniqueFd(static_cast<int>(fd));
}

namespace {

UniqueFd failed_with(int error) {
  errno = error;
  return {};
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

}  // namespace portfwd::broker
