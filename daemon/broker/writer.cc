// portfwd-broker as a writer; see serve.h. The text is written to a new file beside the old one,
// synced and renamed, so that a crash at any moment leaves the old file or the new one. The kernel
// kills the writer when the daemon dies, so that no two writers run at once.

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "base/unique_fd.h"
#include "broker/protocol.h"
#include "broker/serve.h"

namespace portfwd::broker {

namespace {

struct WriteRequest {
  std::array<char, kWritePathLimit> path;
  UniqueFd text;
};

bool receive(int socket, WriteRequest& request) {
  iovec part{request.path.data(), request.path.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  const cmsghdr* item = CMSG_FIRSTHDR(&header);
  if (item == nullptr || item->cmsg_type != SCM_RIGHTS) return false;
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(item), sizeof fd);
  request.text = UniqueFd(fd);
  return got > 0 && (header.msg_flags & MSG_TRUNC) == 0 &&
         request.path[static_cast<std::size_t>(got) - 1] == '\0';
}

WriteReply failed(WriteStep step) {
  return {errno, step};
}

/// Makes missing folders of the path, with mode 0700. Source: XDG Base Directory Specification.
bool make_folders(char* path) {
  for (char* slash = std::strchr(path + 1, '/'); slash != nullptr;
       slash = std::strchr(slash + 1, '/')) {
    *slash = '\0';
    const bool there = ::mkdir(path, 0700) == 0 || errno == EEXIST;
    *slash = '/';
    if (!there) return false;
  }
  return true;
}

bool copy(int from, int to) {
  static std::array<char, 65536> buffer;
  for (;;) {
    const ssize_t got = ::read(from, buffer.data(), buffer.size());
    if (got <= 0) return got == 0;
    for (ssize_t at = 0; at < got;) {
      const ssize_t put = ::write(to, buffer.data() + at, static_cast<std::size_t>(got - at));
      if (put < 0) return false;
      at += put;
    }
  }
}

/// Replaces the file at `path`, mode 0600, by what can be read from `text`, and makes missing
/// folders of the path, mode 0700. Does not sync the folder: if the rename is lost, the old file
/// remains. A file that an earlier writer, or another program, left beside it is removed and not
/// written to: it may be a pipe.
WriteReply replace_file(const char* path, int text) {
  std::array<char, kWritePathLimit> folders;
  std::array<char, kWritePathLimit + 8> beside;
  const int size = std::snprintf(folders.data(), folders.size(), "%s", path);
  if (size < 0 || static_cast<std::size_t>(size) >= folders.size() || path[0] == '\0') {
    return {ENAMETOOLONG, WriteStep::Request};
  }
  (void)std::snprintf(beside.data(), beside.size(), "%s.new", path);
  if (!make_folders(folders.data())) return failed(WriteStep::Folder);
  if (::unlink(beside.data()) != 0 && errno != ENOENT) return failed(WriteStep::Unlink);
  {
    const UniqueFd file(::open(beside.data(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file.valid()) return failed(WriteStep::Open);
    if (!copy(text, file.get())) return failed(WriteStep::Write);
    if (::fsync(file.get()) != 0) return failed(WriteStep::Sync);
  }
  if (std::rename(beside.data(), path) != 0) return failed(WriteStep::Rename);
  return {};
}

}  // namespace

int write_for_daemon(int socket) {
  static WriteRequest request;
  (void)::prctl(PR_SET_NAME, "portfwd-writer");
  (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
  pollfd daemon{socket, 0, 0};
  if (::poll(&daemon, 1, 0) != 0) return 1;  // the daemon died before prctl()
  const WriteReply reply = receive(socket, request)
                               ? replace_file(request.path.data(), request.text.get())
                               : WriteReply{EPROTO, WriteStep::Request};
  return ::send(socket, &reply, sizeof reply, MSG_NOSIGNAL) == sizeof reply ? 0 : 1;
}

}  // namespace portfwd::broker
