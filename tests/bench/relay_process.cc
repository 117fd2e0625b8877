#include "bench/relay_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

namespace portfwd::bench {
namespace {

namespace fs = std::filesystem;
constexpr int kFirstPassed = 3;

[[noreturn]] void execute(const std::string& program, std::vector<std::string> words) {
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::setenv("LISTEN_FDS", "1", 1);
  ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  ::setenv("NGINX", fmt::format("{};", kFirstPassed).c_str(), 1);
  ::execv(program.c_str(), argv.data());
  ::_exit(127);
}

/// CPU time of the threads that the process has now.
Clock::duration of_threads(pid_t pid) {
  Clock::duration sum{};
  std::error_code gone;
  for (const auto& task : fs::directory_iterator(fmt::format("/proc/{}/task", pid), gone)) {
    std::uint64_t nanoseconds = 0;
    std::ifstream(task.path() / "schedstat") >> nanoseconds;
    sum += std::chrono::nanoseconds(nanoseconds);
  }
  return sum;
}

/// CPU time of children, for a relay that forks for each connection: cutime and cstime of proc(5),
/// stat.
Clock::duration of_children(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text, '\0');  // empty when it has just ended
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream rest(text.substr(name_end + 1));
  std::string word;
  for (int field = 3; field < 16; ++field) rest >> word;
  std::uint64_t user = 0;
  std::uint64_t system = 0;
  rest >> user >> system;
  const auto ticks = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
  return std::chrono::nanoseconds((user + system) * 1'000'000'000 / ticks);
}

/// KiB. For a process whose mappings cannot be read all resident memory counts.
double memory_of(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/smaps_rollup", pid));
  std::string word;
  while (file >> word) {
    double kib = 0;
    if (word == "Pss:" && file >> kib) return kib;
  }
  double pages = 0;
  std::ifstream(fmt::format("/proc/{}/statm", pid)) >> pages >> pages;
  return pages * static_cast<double>(::getpagesize()) / 1024;
}

double descriptors_of(pid_t pid) {
  std::error_code error;
  const fs::directory_iterator all(fmt::format("/proc/{}/fd", pid), error);
  if (error) return std::numeric_limits<double>::quiet_NaN();
  return static_cast<double>(std::distance(fs::begin(all), fs::end(all)));
}

}  // namespace

RelayProcess::~RelayProcess() {
  ::kill(-pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

std::vector<pid_t> RelayProcess::processes() const {
  std::vector<pid_t> group;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid > 0 && ::getpgid(pid) == pid_) group.push_back(pid);
  }
  return group;
}

pid_t fork_group() {
  const pid_t pid = ::fork();
  ::setpgid(pid, pid);  // in both processes, whichever runs first
  if (pid == 0) ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  return pid;
}

pid_t start_program(const std::string& program, std::vector<std::string> words, int listener,
                    pid_t inside) {
  const pid_t pid = fork_group();
  if (pid != 0) return pid;
  (void)!std::freopen("/dev/null", "w", stderr);
  if (inside != 0) enter_namespaces(inside);
  const int passed = listener >= 0 ? listener : ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(passed, kFirstPassed);
  ::fcntl(kFirstPassed, F_SETFD, 0);
  ::close_range(kFirstPassed + 1, ~0U, 0);
  execute(program, std::move(words));
}

Clock::duration cpu_time_of(std::span<const pid_t> processes) {
  Clock::duration sum{};
  for (const pid_t pid : processes) sum += of_threads(pid) + of_children(pid);
  return sum;
}

Footprint footprint_of(std::span<const pid_t> processes) {
  Footprint sum;
  for (const pid_t pid : processes) {
    sum.memory += memory_of(pid);
    sum.descriptors += descriptors_of(pid);
  }
  return sum;
}

void enter_namespaces(pid_t pid) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (::setns(process.get(), CLONE_NEWUSER | CLONE_NEWNET) != 0) {
    give_up(fmt::format("setns: {}", std::strerror(errno)));
  }
}

}  // namespace portfwd::bench
