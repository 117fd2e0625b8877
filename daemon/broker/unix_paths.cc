#include "broker/unix_paths.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <charconv>
#include <cstring>
#include <string_view>

namespace portfwd::broker {

namespace {

/// No magic links: /proc inside may lead to any process' root. Source: openat2(2); facts:
/// OpenInRoot.*.
UniqueFd open_inside(int root, const char* path, std::uint64_t flags) {
  open_how how{};
  how.flags = flags | O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return UniqueFd(static_cast<int>(::syscall(SYS_openat2, root, path, &how, sizeof how)));
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

/// A path split at its last slash; the directory keeps the slash.
struct Split {
  explicit Split(const char* path) {
    const std::string_view whole(path);
    const std::size_t slash = whole.rfind('/');
    std::memcpy(directory, path, slash + 1);
    name = whole.substr(slash + 1);
  }
  [[nodiscard]] bool names_an_entry() const { return !name.empty() && name != "." && name != ".."; }
  char directory[kPathSize]{};
  std::string_view name;  ///< ends where the path does, so its data() is NUL-terminated
};

/// Opened first and looked at, so that a file which took the name meanwhile keeps its owner.
Outcome give_to(int directory, const char* name, const Request& request) {
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
  // bind() gives the path the socket's own mode, so it is never more open than asked for; and it
  // does not follow a link there. Facts: UnixSocket.ItsPathGetsTheSocketsOwnMode,
  // UnixSocket.BindNeverFollowsALinkAtTheEndOfThePath.
  if (::fchmod(socket.get(), request.mode) != 0) return failed(Step::SetOption);
  if (::bind(socket.get(), address.get(), DescriptorAddress::kSize) != 0) return failed(Step::Bind);
  Outcome outcome = give_to(directory.get(), split.name.data(), request);
  if (outcome.ok() && ::listen(socket.get(), request.backlog) != 0) outcome = failed(Step::Listen);
  if (!outcome.ok()) {
    ::unlinkat(directory.get(), split.name.data(), 0);
    return outcome;
  }
  made.add(std::move(socket));
  return {};
}

}  // namespace portfwd::broker
