
#include "broker/client/broker_launcher.h"

#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <csignal>
#include <cstring>
#include <utility>

#include "broker/protocol.h"
#include "kernel/netns.h"

namespace portfwd {

namespace {

// Called by number: glibc 2.36 declares both functions without extern "C".
UniqueFd pidfd_open(pid_t pid) {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}
void kill_by(const UniqueFd& pidfd) {
  (void)::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
}

/// Closes everything but the socket in the child. Source: posix_spawn(3), close_range(2).
class FileActions {
 public:
  explicit FileActions(int socket) {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawn_file_actions_adddup2(&actions_, socket, broker::kSocketFd);
    for (int fd = 0; fd < broker::kSocketFd; ++fd) {
      ::posix_spawn_file_actions_addclose(&actions_, fd);
    }
    ::posix_spawn_file_actions_addclosefrom_np(&actions_, broker::kSocketFd + 1);
  }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  ~FileActions() { ::posix_spawn_file_actions_destroy(&actions_); }
  [[nodiscard]] const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

class Attributes {
 public:
  explicit Attributes(SpawnLauncher::Ending ending) {
    ::posix_spawnattr_init(&attributes_);
    sigset_t blocked, all;
    ::sigemptyset(&blocked);
    ::sigfillset(&all);
    if (ending == SpawnLauncher::Ending::WhenDone) {
      for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&blocked, signal);
    }
    ::posix_spawnattr_setsigmask(&attributes_, &blocked);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    ::posix_spawnattr_setpgroup(&attributes_, 0);
    ::posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;
  ~Attributes() { ::posix_spawnattr_destroy(&attributes_); }
  [[nodiscard]] const posix_spawnattr_t* get() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_{};
};

}  // namespace

DyingChild::DyingChild(EventLoop& loop, BrokerProcess process, Done done)
    : done_(std::move(done)),
      pid_(process.pid),
      pidfd_(std::move(process.pidfd)),
      source_(loop, pidfd_.get(), *this) {
  assert(pidfd_.valid());
  kill_by(pidfd_);
}

bool DyingChild::reap() {
  siginfo_t info{};
  const auto id = static_cast<id_t>(pidfd_.get());
  return ::waitid(P_PIDFD, id, &info, WEXITED | WNOHANG) != 0 || info.si_pid != 0;
}

void DyingChild::on_io(IoSource&, std::uint32_t) {
  if (!reap()) return;
  source_.disarm();
  done_(pid_);
}

SpawnLauncher::SpawnLauncher(EventLoop& loop, std::string program, std::string argument,
                             Ending ending)
    : loop_(loop), program_(std::move(program)), argument_(std::move(argument)), ending_(ending) {}
SpawnLauncher::~SpawnLauncher() = default;

Result<BrokerProcess> SpawnLauncher::launch() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return fail("socketpair");
  }
  BrokerProcess started;
  started.socket = UniqueFd(ends[0]);
  const UniqueFd theirs(ends[1]);
  const FileActions actions(theirs.get());
  const Attributes attributes(ending_);
  std::string name = program_.substr(program_.rfind('/') + 1);
  std::array<char*, 3> argv{name.data(), argument_.empty() ? nullptr : argument_.data(), nullptr};
  std::array<char*, 1> environment{nullptr};
  const int error = ::posix_spawn(&started.pid, program_.c_str(), actions.get(), attributes.get(),
                                  argv.data(), environment.data());
  if (error != 0) return fail("start of its program", error);
  started.pidfd = pidfd_open(started.pid);
  if (started.pidfd.valid()) return started;
  const int why = errno;
  ::kill(started.pid, SIGKILL);  // not reaped yet, so the pid cannot have been reused
  ::waitpid(started.pid, nullptr, 0);
  return fail("pidfd_open", why);
}

void SpawnLauncher::discard(BrokerProcess process) {
  if (!process.pidfd.valid()) return;
  auto child = std::make_unique<DyingChild>(loop_, std::move(process), [this](pid_t reaped) {
    const auto it =
        std::ranges::find(dying_, reaped, [](const auto& dying) { return dying->pid(); });
    loop_.retire(std::move(*it));
    dying_.erase(it);
  });
  if (child->reap()) return;
  if (child->watch()) dying_.push_back(std::move(child));
}

namespace {

constexpr std::size_t kMostFds = 253;  // SCM_MAX_FD, net/scm.h
constexpr std::size_t kControlSize = CMSG_SPACE(kMostFds * sizeof(int));

void collect(const msghdr& header, std::vector<UniqueFd>& fds) {
  auto* mutable_header = const_cast<msghdr*>(&header);  // CMSG_NXTHDR only reads
  for (cmsghdr* item = CMSG_FIRSTHDR(&header); item != nullptr;
       item = CMSG_NXTHDR(mutable_header, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(item) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
}

}  // namespace

Result<void> send_with_fds(int socket, std::span<const std::byte> bytes, std::span<const int> fds) {
  assert(fds.size() <= kMostFds);
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};  // sendmsg only reads
  alignas(cmsghdr) std::array<char, kControlSize> control;
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(item), fds.data(), fds.size_bytes());
  }
  if (::sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return fail("sendmsg");
  return {};
}

ReceivedMessage receive_with_fds(int socket, std::span<std::byte> buffer) {
  iovec part{buffer.data(), buffer.size()};
  alignas(cmsghdr) std::array<char, kControlSize> control;
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ReceivedMessage got;
  const ssize_t size = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return got;
  if (size >= 0) collect(header, got.fds);  // a message without bytes may have descriptors
  if (size <= 0) {
    got.outcome = ReceivedMessage::Outcome::End;
    return got;
  }
  got.outcome = ReceivedMessage::Outcome::Message;
  got.size = static_cast<std::size_t>(size);
  got.bytes_cut_off = (header.msg_flags & MSG_TRUNC) != 0;
  got.fds_cut_off = (header.msg_flags & MSG_CTRUNC) != 0;
  return got;
}

}  // namespace portfwd
