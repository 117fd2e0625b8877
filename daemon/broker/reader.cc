// portfwd-broker as a reader; see serve.h. Its only decision is whose processes may be read: those
// that the kernel permits it to trace, which are the user's own and those in a user namespace that
// the user owns, and those of root.

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

#include "broker/channel.h"
#include "broker/files.h"
#include "broker/protocol.h"
#include "broker/sandbox.h"
#include "broker/serve.h"

namespace portfwd::broker {

namespace {

/// One request and the buffer for its reply. Static, as it is large and there is one at a time.
struct Work {
  ReadRequest request;
  UniqueFd passed;
  std::size_t payload_size = 0;
  alignas(8) std::array<char, kMostPayload> payload;
  std::array<char, kChunk> answer;
};

/// Receives one request.
/// @return false when the socket is closed, or the message is not a request
bool receive(int socket, Work& work) {
  std::array<iovec, 2> parts{iovec{&work.request, sizeof work.request},
                             iovec{work.payload.data(), work.payload.size()}};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = parts.data();
  header.msg_iovlen = parts.size();
  header.msg_control = control.data();
  header.msg_controllen = CMSG_LEN(sizeof(int));
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  work.passed.reset();
  const cmsghdr* item = CMSG_FIRSTHDR(&header);
  if (item != nullptr && item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_RIGHTS &&
      item->cmsg_len == CMSG_LEN(sizeof(int))) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(item), sizeof fd);
    work.passed = UniqueFd(fd);
  }
  const bool whole = got >= static_cast<ssize_t>(sizeof work.request) &&
                     (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
  if (!whole || work.request.version != kReaderVersion) return false;
  work.payload_size = static_cast<std::size_t>(got) - sizeof work.request;
  return true;
}

/// Sends one reply.
/// @return false when the daemon has closed its end
bool send(int socket, ReadReply reply, const ReadRequest& to, std::string_view bytes = {}) {
  reply.id = to.id;
  std::array<iovec, 2> parts{iovec{&reply, sizeof reply},
                             iovec{const_cast<char*>(bytes.data()), bytes.size()}};
  msghdr header{};
  header.msg_iov = parts.data();
  header.msg_iovlen = parts.size();
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &header, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

bool refuse(int socket, const ReadRequest& request, int error) {
  ReadReply reply;
  reply.error = error;
  return send(socket, reply, request);
}

/// Reads until the end of the file, or until the buffer is full.
/// @return bytes, or -1 with errno set
ssize_t fill(int fd, char* buffer, std::size_t size) {
  std::size_t had = 0;
  while (had < size) {
    const ssize_t got = ::read(fd, buffer + had, size - had);
    if (got < 0) return -1;
    if (got == 0) break;
    had += static_cast<std::size_t>(got);
  }
  return static_cast<ssize_t>(had);
}

UniqueFd open_at(int folder, const char* name, int flags = kReadFlags) {
  return UniqueFd(::openat(folder, name, flags));
}

/// Opens the folder of a process. The descriptor refers to that process even when the pid is
/// reused.
UniqueFd open_process(int proc, std::int32_t pid) {
  std::array<char, 12> name{};
  *std::to_chars(name.data(), name.data() + name.size() - 1, pid).ptr = '\0';
  return open_at(proc, name.data(), kFolderFlags);
}

/// Whether all four uids of the process are root's.
bool runs_as_root(int process) {
  const UniqueFd file = open_at(process, "status");
  std::array<char, 2048> text{};
  const ssize_t size = file.valid() ? fill(file.get(), text.data(), text.size()) : -1;
  const std::string_view status(text.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  return status.find("\nUid:\t0\t0\t0\t0\n") != status.npos;
}

/// Whether the process may be read. The links of ns/ are readable for processes that may trace it,
/// and reading one does not take the lock of its memory map. Source: ptrace(2), "Ptrace access mode
/// checking".
/// Fact: ReaderRights.ReadsNoProcessOfAnotherUser
bool may_be_read(int process) {
  std::array<char, 64> target;
  return ::readlinkat(process, "ns/user", target.data(), target.size()) > 0 ||
         runs_as_root(process);
}

bool answer_texts(int socket, int proc, Work& work) {
  const UniqueFd process = open_process(proc, work.request.pid);
  if (!process.valid()) return refuse(socket, work.request, ESRCH);
  if (!may_be_read(process.get())) return refuse(socket, work.request, EACCES);
  const UniqueFd command = open_at(process.get(), "cmdline");
  if (!command.valid()) return refuse(socket, work.request, errno);
  const ssize_t words = fill(command.get(), work.answer.data(), kCommandLimit);
  if (words < 0) return refuse(socket, work.request, errno);
  const auto had = static_cast<std::size_t>(words);
  const UniqueFd environment = open_at(process.get(), "environ");
  const ssize_t more = environment.valid()
                           ? fill(environment.get(), work.answer.data() + had, kEnvironmentLimit)
                           : -1;
  ReadReply reply;
  reply.command = static_cast<std::uint32_t>(had);
  reply.environment_known = more >= 0 ? 1 : 0;
  return send(socket, reply, work.request,
              {work.answer.data(), had + static_cast<std::size_t>(std::max<ssize_t>(more, 0))});
}

/// Parses "socket:[12345]".
/// @return 0 for any other text
std::uint32_t socket_inode(std::string_view text) {
  constexpr std::string_view kBefore = "socket:[";
  if (!text.starts_with(kBefore) || !text.ends_with(']')) return 0;
  std::uint32_t inode = 0;
  const char* end = text.data() + text.size() - 1;
  const auto [stop, error] = std::from_chars(text.data() + kBefore.size(), end, inode);
  return error == std::errc() && stop == end ? inode : 0;
}

/// Search for sockets among the descriptors of processes.
class OwnerSearch {
 public:
  OwnerSearch(const Work& work, char* out) : out_(out), inodes_(work.request.inodes) {
    std::memcpy(wanted_.data(), work.payload.data() + 4 * std::size_t{work.request.pids},
                4 * std::size_t{inodes_});
    std::sort(wanted_.begin(), wanted_.begin() + inodes_);
  }

  [[nodiscard]] bool done() const { return links_ == 0 || found_ == inodes_; }
  [[nodiscard]] std::size_t bytes() const { return found_ * sizeof(SocketOwner); }

  void search_process(int process, std::int32_t pid) {
    const UniqueFd folder = open_at(process, "fd", kListFlags);
    if (!folder.valid()) return;
    alignas(dirent64) std::array<char, 8192> entries;
    for (;;) {
      const ssize_t got = ::getdents64(folder.get(), entries.data(), entries.size());
      if (got <= 0) return;
      for (ssize_t at = 0; at < got;) {
        const auto* entry = reinterpret_cast<const dirent64*>(entries.data() + at);  // getdents(2)
        at += entry->d_reclen;
        if (done()) return;
        check_link(folder.get(), entry->d_name, pid);
      }
    }
  }

 private:
  void check_link(int folder, const char* name, std::int32_t pid) {
    --links_;
    std::array<char, 40> target;
    const ssize_t size = ::readlinkat(folder, name, target.data(), target.size());
    if (size <= 0) return;
    const auto inode = socket_inode({target.data(), static_cast<std::size_t>(size)});
    const auto end = wanted_.begin() + inodes_;
    const auto place = std::lower_bound(wanted_.begin(), end, inode);
    if (inode == 0 || place == end || *place != inode) return;
    for (std::size_t i = 0; i < found_; ++i) {
      if (at(i).inode == inode) return;  // the first process found is reported
    }
    const SocketOwner owner{inode, pid};
    std::memcpy(out_ + found_++ * sizeof owner, &owner, sizeof owner);
  }
  [[nodiscard]] SocketOwner at(std::size_t i) const {
    SocketOwner owner;
    std::memcpy(&owner, out_ + i * sizeof owner, sizeof owner);
    return owner;
  }

  char* out_;
  std::size_t inodes_;
  std::array<std::uint32_t, kMostInodes> wanted_{};  ///< ascending
  std::size_t found_ = 0;
  std::size_t links_ = kMostLinks;
};

bool answer_owners(int socket, int proc, Work& work) {
  const ReadRequest& request = work.request;
  const bool sound = request.pids <= kMostPids && request.inodes <= kMostInodes &&
                     work.payload_size == 4 * (std::size_t{request.pids} + request.inodes);
  if (!sound) return refuse(socket, request, EINVAL);
  OwnerSearch search(work, work.answer.data());
  for (std::size_t i = 0; i < request.pids && !search.done(); ++i) {
    std::int32_t pid = 0;
    std::memcpy(&pid, work.payload.data() + i * sizeof pid, sizeof pid);
    const UniqueFd process = open_process(proc, pid);
    if (process.valid()) search.search_process(process.get(), pid);
  }
  return send(socket, {}, request, {work.answer.data(), search.bytes()});
}

/// Whether the file is in /proc or sysfs, whose contents the kernel generates on each read. True on
/// failure.
bool is_on_pseudo_filesystem(int fd) {
  struct statfs about {};
  if (::fstatfs(fd, &about) != 0) return true;
  return about.f_type == PROC_SUPER_MAGIC || about.f_type == SYSFS_MAGIC;
}

/// Opens a file that a request may read: regular, owned by `owner`, at most `limit` bytes.
/// @return invalid with errno set
UniqueFd open_file(const ReadRequest& request, const char* folder_path, const char* path) {
  const UniqueFd folder = open_folder(folder_path);
  if (!folder.valid()) return {};
  UniqueFd file = open_file_beneath(folder.get(), path);
  if (!file.valid()) return {};
  struct stat about {};
  if (::fstat(file.get(), &about) != 0) return {};
  errno = 0;
  if (!S_ISREG(about.st_mode) || is_on_pseudo_filesystem(file.get())) errno = EINVAL;
  if (errno == 0 && about.st_uid != request.owner) errno = EACCES;
  if (errno == 0 && about.st_size > static_cast<off_t>(request.limit)) errno = EFBIG;
  return errno == 0 ? std::move(file) : UniqueFd();
}

bool answer_file(int socket, Work& work) {
  const ReadRequest& request = work.request;
  const std::string_view text(work.payload.data(), work.payload_size);
  const std::size_t end = text.find('\0');
  const bool sound = end != text.npos && text.find('\0', end + 1) == text.size() - 1;
  if (!sound) return refuse(socket, request, EINVAL);
  const UniqueFd file = open_file(request, text.data(), text.data() + end + 1);
  if (!file.valid()) return refuse(socket, request, errno);
  std::size_t left = std::size_t{request.limit} + 1;
  for (;;) {
    const ssize_t got = fill(file.get(), work.answer.data(), std::min(left, kChunk));
    if (got < 0) return refuse(socket, request, errno);
    left -= static_cast<std::size_t>(got);
    if (left == 0) return refuse(socket, request, EFBIG);
    ReadReply reply;
    reply.last = static_cast<std::size_t>(got) < kChunk ? 1 : 0;
    if (!send(socket, reply, request, {work.answer.data(), static_cast<std::size_t>(got)})) {
      return false;
    }
    if (reply.last != 0) return true;
  }
}

/// Carries out ReadOp::Join.
/// @return an errno, or 0
int join(Work& work) {
  if (work.passed.valid() && ::setns(work.passed.get(), CLONE_NEWUSER) != 0) return errno;
  work.passed.reset();
  constexpr Capabilities kToRead = Capabilities{1} << CAP_SYS_PTRACE | Capabilities{1}
                                                                           << CAP_DAC_READ_SEARCH;
  const bool processes = work.request.purpose == Purpose::Processes;
  if (const auto dropped = drop_capabilities(processes ? kToRead : 0); !dropped.ok()) {
    return dropped.error;
  }
  return filter_reading_calls().error;
}

bool answer(int socket, int proc, Work& work) {
  switch (work.request.op) {
    case ReadOp::Join:
      return refuse(socket, work.request, EALREADY);
    case ReadOp::Texts:
      return answer_texts(socket, proc, work);
    case ReadOp::Owners:
      return answer_owners(socket, proc, work);
    case ReadOp::File:
      return answer_file(socket, work);
  }
  return refuse(socket, work.request, EINVAL);
}

}  // namespace

int read_for_daemon(int socket) {
  static Work work;
  (void)::prctl(PR_SET_NAME, "portfwd-reader");
  if (!receive(socket, work) || work.request.op != ReadOp::Join) return 1;
  work.payload.back() = '\0';
  const UniqueFd proc = open_at(AT_FDCWD, work.payload.data(), kFolderFlags);
  const int error = proc.valid() ? join(work) : errno;
  if (!refuse(socket, work.request, error) || error != 0) return 1;
  while (receive(socket, work)) {
    if (!answer(socket, proc.get(), work)) break;
  }
  return 0;
}

}  // namespace portfwd::broker
