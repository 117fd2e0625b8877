#include "bench/daemon.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "build_paths.h"

namespace portfwd::bench {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
constexpr auto kDeadline = 10s;
constexpr auto kRetry = 500us;

std::string proc(pid_t pid, const char* file) {
  return fmt::format("/proc/{}/{}", pid, file);
}

/// The number after `key`, such as "Rss:", in a file of lines.
std::uint64_t number_in(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string word;
  std::uint64_t number = 0;
  while (file >> word) {
    if (word == key) return file >> number, number;
  }
  return 0;
}

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(port);
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return at;
}

UniqueFd notify_socket(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  path.copy(at.sun_path, sizeof at.sun_path - 1);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0) {
    give_up("no socket at " + path);
  }
  return fd;
}

void wait_until_ready(const UniqueFd& notify) {
  std::array<char, 512> text{};
  pollfd wait{notify.get(), POLLIN, 0};
  while (::poll(&wait, 1, 10'000) == 1) {
    const ssize_t n = ::recv(notify.get(), text.data(), text.size(), 0);
    if (n > 0 && std::string_view(text.data(), std::size_t(n)).starts_with("READY=1")) return;
  }
  give_up("the daemon did not say READY=1");
}

[[noreturn]] void become_daemon(const testing_support::PrivateBus& bus, const std::string& notify) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const std::string folder = bus.folder();
  ::setenv("DBUS_SESSION_BUS_ADDRESS", bus.address().c_str(), 1);
  ::setenv("NOTIFY_SOCKET", notify.c_str(), 1);
  for (const char* name : {"XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "HOME"}) {
    ::setenv(name, folder.c_str(), 1);
  }
  ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  const std::string log = folder + "/daemon.log";
  (void)!std::freopen(log.c_str(), "w", stderr);
  const char* other = std::getenv("PORTFWD_DAEMON");  // for example an installed one
  ::execl(other != nullptr ? other : PORTFWD_PATH, "portfwd", nullptr);
  ::_exit(127);
}

}  // namespace

Daemon::Daemon(const testing_support::PrivateBus& bus) {
  const std::string path = bus.folder() + "/notify";
  fs::remove(path);
  const UniqueFd notify = notify_socket(path);
  const auto began = Clock::now();
  pid_ = ::fork();
  if (pid_ == 0) become_daemon(bus, path);
  wait_until_ready(notify);
  took_ = Clock::now() - began;
}

Daemon::~Daemon() {
  ::kill(pid_, SIGTERM);
  ::waitpid(pid_, nullptr, 0);
}

std::vector<pid_t> Daemon::processes() const {
  std::vector<pid_t> all{pid_};
  std::ifstream children(fmt::format("/proc/{0}/task/{0}/children", pid_));
  for (pid_t child = 0; children >> child;) all.push_back(child);
  return all;
}

std::uint64_t Daemon::resident(pid_t of) {
  std::uint64_t size = 0;
  std::uint64_t pages = 0;
  std::ifstream(proc(of, "statm")) >> size >> pages;
  return pages * static_cast<std::uint64_t>(::getpagesize()) / 1024;
}

Memory Daemon::memory() const {
  const std::string file = proc(pid_, "smaps_rollup");
  return {number_in(file, "Rss:"), number_in(file, "Private_Dirty:"),
          number_in(file, "Anonymous:")};
}

std::size_t Daemon::descriptors() const {
  const fs::directory_iterator fds(proc(pid_, "fd"));
  return static_cast<std::size_t>(std::distance(fs::begin(fds), fs::end(fds)));
}

Clock::duration Daemon::cpu_time() const {
  Clock::duration sum{};
  for (const pid_t pid : processes()) {
    std::int64_t ns = 0;
    std::ifstream(proc(pid, "schedstat")) >> ns;
    sum += std::chrono::nanoseconds(ns);
  }
  return sum;
}

std::uint64_t Daemon::wakeups() const {
  return number_in(proc(pid_, "status"), "voluntary_ctxt_switches:");
}

double Meter::cpu_percent() const {
  return 100 * std::chrono::duration<double>(daemon_.cpu_time() - cpu_).count() / seconds();
}

double Meter::wakeups_per_second() const {
  return static_cast<double>(daemon_.wakeups() - wakeups_) / seconds();
}

UniqueFd connect_to(std::uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in at = loopback(port);
  char byte = 0;
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0 ||
      ::recv(fd.get(), &byte, 1, 0) != 1) {
    return {};
  }
  return fd;
}

Clock::time_point first_byte(std::uint16_t port) {
  const auto deadline = Clock::now() + kDeadline;
  while (Clock::now() < deadline) {
    if (connect_to(port).valid()) return Clock::now();
    rest(kRetry);
  }
  give_up(fmt::format("port {} was not reachable in time", port));
}

Clock::time_point refused(std::uint16_t port) {
  const auto deadline = Clock::now() + kDeadline;
  const sockaddr_in at = loopback(port);
  while (Clock::now() < deadline) {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0 &&
        errno == ECONNREFUSED) {
      return Clock::now();
    }
    rest(kRetry);
  }
  give_up(fmt::format("port {} stayed open", port));
}

Clock::duration ask_by_client(const testing_support::PrivateBus& bus,
                              std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "portfwdctl");
  arguments.push_back(nullptr);
  const auto began = Clock::now();
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::setenv("DBUS_SESSION_BUS_ADDRESS", bus.address().c_str(), 1);
    (void)!std::freopen("/dev/null", "w", stdout);
    ::execv(PORTFWDCTL_PATH, const_cast<char**>(arguments.data()));
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  const auto took = Clock::now() - began;
  if (status != 0) give_up("portfwdctl failed");
  return took;
}

BusListener::BusListener(const testing_support::PrivateBus& bus) {
  ::sd_bus_new(&bus_);
  ::sd_bus_set_address(bus_, bus.address().c_str());
  ::sd_bus_set_bus_client(bus_, 1);
  const auto handler = [](sd_bus_message* m, void* self, sd_bus_error*) {
    return on_signal(m, self);
  };
  if (::sd_bus_start(bus_) < 0 ||
      ::sd_bus_add_match(bus_, nullptr, "type='signal',sender='org.portfwd1'", handler, this) < 0) {
    give_up("no bus at " + bus.address());
  }
}

BusListener::~BusListener() {
  ::sd_bus_flush_close_unref(bus_);
}

void BusListener::clear() {
  while (::sd_bus_process(bus_, nullptr) > 0) {
  }
  signals_.clear();
}

/// Collects strings only, also those in variants and dictionaries.
void collect_texts(sd_bus_message* m, std::vector<std::string>& out) {
  char type = 0;
  const char* contents = nullptr;
  while (::sd_bus_message_peek_type(m, &type, &contents) > 0) {
    if (contents != nullptr) {
      ::sd_bus_message_enter_container(m, type, contents);
      collect_texts(m, out);
      ::sd_bus_message_exit_container(m);
    } else if (type == 's' || type == 'o') {
      const char* text = "";
      ::sd_bus_message_read_basic(m, type, &text);
      out.emplace_back(text);
    } else {
      const char one[] = {type, '\0'};
      ::sd_bus_message_skip(m, one);
    }
  }
}

int BusListener::on_signal(sd_bus_message* m, void* listener) {
  Signal signal{::sd_bus_message_get_member(m), {}, Clock::now()};
  collect_texts(m, signal.texts);
  static_cast<BusListener*>(listener)->signals_.push_back(std::move(signal));
  return 0;
}

Clock::time_point BusListener::wait_for(const std::string& member, const std::string& text) {
  const auto deadline = Clock::now() + kDeadline;
  while (Clock::now() < deadline) {
    for (const Signal& signal : signals_) {
      const bool has = text.empty() || std::ranges::count(signal.texts, text) != 0;
      if (signal.member == member && has) return signal.came;
    }
    if (::sd_bus_process(bus_, nullptr) == 0) ::sd_bus_wait(bus_, 100'000);
  }
  give_up(fmt::format("no {} with \"{}\" came", member, text));
}

/// Lets time pass for figures that are per second; nothing is waited for here.
void rest(Clock::duration time) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
  ::poll(nullptr, 0, static_cast<int>(ms));
}

}  // namespace portfwd::bench
