#include "bench/relays.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "bench/container.h"
#include "bench/load.h"

namespace portfwd::bench {
namespace {

namespace fs = std::filesystem;
constexpr int kListener = 3;  // the first descriptor that systemd passes, sd_listen_fds(3)

using Words = std::vector<std::string>;

struct Peer {
  const char* name;
  const char* program;
  Words (*command)(const Target& target);
};

std::string write_config(const Target& target, const char* name, const std::string& text) {
  std::string path = target.folder + "/" + name;
  std::ofstream(path) << text;
  return path;
}

std::string inside(const Target& target) {
  return fmt::format("127.0.0.1:{}", target.port);
}

Words socket_proxyd(const Target& target) {
  return {inside(target)};
}

Words haproxy(const Target& target) {
  const std::string path = write_config(
      target, "haproxy.cfg",
      fmt::format("global\n maxconn 4000\ndefaults\n mode tcp\n timeout connect 5s\n"
                  " timeout client 60s\n timeout server 60s\nlisten relay\n bind fd@{}\n"
                  " option splice-request\n option splice-response\n server target {}\n",
                  kListener, inside(target)));
  return {"-db", "-q", "-f", path};
}

constexpr std::array kPeers{
    Peer{"systemd-socket-proxyd", "/lib/systemd/systemd-socket-proxyd", socket_proxyd},
    Peer{"haproxy, splice", "/usr/sbin/haproxy", haproxy},
};
constexpr const char* kPasta = "/usr/bin/pasta";

/// @param words of a command @return never
[[noreturn]] void execute(const char* program, Words words) {
  std::vector<char*> argv{const_cast<char*>(program)};
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::setenv("LISTEN_FDS", "1", 1);
  ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  ::execv(program, argv.data());
  ::_exit(127);
}

void prepare_child() {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  (void)!std::freopen("/dev/null", "w", stderr);
}

void start(const Peer& peer, const Target& target, std::list<Relay>& into) {
  const UniqueFd listener = listen_on_loopback(0, SOCK_NONBLOCK);
  const std::uint16_t port = port_of(listener);
  const pid_t pid = ::fork();
  if (pid != 0) return void(into.emplace_back(peer.name, port, pid));
  prepare_child();
  enter_namespaces(target.container);
  ::dup2(listener.get(), kListener);
  ::fcntl(kListener, F_SETFD, 0);
  ::close_range(kListener + 1, ~0U, 0);
  execute(peer.program, peer.command(target));
}

/// It enters by itself and makes its listener on the host. It wants a network interface whose
/// address it could lend; lo has to do, under another name inside.
void start_pasta(const Target& target, std::list<Relay>& into) {
  UniqueFd reserved = listen_on_loopback(0, SOCK_NONBLOCK);
  const std::uint16_t port = port_of(reserved);
  reserved.reset();
  const pid_t pid = ::fork();
  if (pid != 0) return void(into.emplace_back("pasta", port, pid));
  prepare_child();
  ::close_range(3, ~0U, 0);
  execute(kPasta, {"-f",
                   "-q",
                   "-4",
                   "-i",
                   "lo",
                   "-I",
                   "tap0",
                   "-M",
                   "02:00:00:00:00:01",
                   "-a",
                   "10.1.1.2",
                   "-n",
                   "24",
                   "-g",
                   "10.1.1.1",
                   "-t",
                   fmt::format("127.0.0.1/{}:{}", port, target.port),
                   "-T",
                   "none",
                   "-u",
                   "none",
                   "-U",
                   "none",
                   std::to_string(target.container)});
}

bool works(std::uint16_t port) {
  const Load probe{"", LoadKind::Echo, 1};
  for (const auto end = Clock::now() + std::chrono::seconds(5); Clock::now() < end;) {
    if (run_load(probe, port, std::chrono::milliseconds(1)).rate > 0) return true;
  }
  return false;
}

/// Of the threads that one process has now.
Clock::duration used_by(pid_t pid) {
  Clock::duration sum{};
  std::error_code gone;
  for (const auto& task : fs::directory_iterator(fmt::format("/proc/{}/task", pid), gone)) {
    std::uint64_t nanoseconds = 0;
    std::ifstream(task.path() / "schedstat") >> nanoseconds;
    sum += std::chrono::nanoseconds(nanoseconds);
  }
  return sum;
}

}  // namespace

Relay::~Relay() {
  if (pid_ <= 0) return;
  ::kill(-pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

Clock::duration Relay::cpu_time() const {
  Clock::duration sum{};
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid > 0 && ::getpgid(pid) == pid_) sum += used_by(pid);
  }
  return sum;
}

std::list<Relay> start_peers(const Target& target) {
  std::list<Relay> all;
  for (const Peer& peer : kPeers) {
    if (fs::exists(peer.program)) start(peer, target, all);
  }
  if (fs::exists(kPasta)) start_pasta(target, all);
  all.remove_if([](const Relay& relay) {
    const bool broken = !works(relay.port());
    if (broken) fmt::print(stderr, "{} is installed but does not work here\n", relay.name());
    return broken;
  });
  return all;
}

void enter_namespaces(pid_t pid) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (::setns(process.get(), CLONE_NEWUSER | CLONE_NEWNET) != 0) {
    give_up(fmt::format("setns: {}", std::strerror(errno)));
  }
}

std::uint16_t port_of(const UniqueFd& socket) {
  sockaddr_in at{};
  socklen_t length = sizeof at;
  ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&at), &length);
  return ntohs(at.sin_port);
}

}  // namespace portfwd::bench
