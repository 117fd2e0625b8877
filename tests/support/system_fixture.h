// Fixture of the system tests: the real daemon with its real broker on a bus of the test's own, and
// what a test needs to see it from outside: signals, portfwdctl, its log, its sockets. Every wait
// is for an event, with a deadline.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "build_paths.h"
#include "kernel/procfs.h"
#include "support/box.h"
#include "support/bus_client.h"
#include "support/private_bus.h"
#include "support/program.h"
#include "support/temp_dir.h"

namespace portfwd::testing_support {

inline const IpAddress kV4 = IpAddress::loopback(Family::V4);
inline const IpAddress kV6 = IpAddress::loopback(Family::V6);

/// The service manager's notification socket; sd_notify(3).
class ManagerSocket {
 public:
  explicit ManagerSocket(const std::string& path)
      : fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{AF_UNIX, {}};
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  /// Whether `word` was received.
  [[nodiscard]] bool heard(const std::string& word) const {
    return text_.find(word) != std::string::npos;
  }
  void read() {
    std::array<char, 4096> buffer;
    for (ssize_t got; (got = ::recv(fd_.get(), buffer.data(), buffer.size(), 0)) > 0;) {
      text_.append(buffer.data(), static_cast<std::size_t>(got)).append("\n");
    }
  }
  void forget() { text_.clear(); }

 private:
  UniqueFd fd_;
  std::string text_;
};

class SystemTest : public testing::Test {
 protected:
  struct Said {
    int status;
    std::string out;
    std::string err;
  };

  SystemTest() : notify_(file("notify")) {
    ::setenv("DBUS_SESSION_BUS_ADDRESS", bus_.address().c_str(), 1);
    ::setenv("NOTIFY_SOCKET", file("notify").c_str(), 1);
    ::setenv("XDG_CONFIG_HOME", folder_.path().c_str(), 1);
    ::setenv("XDG_STATE_HOME", file("state").c_str(), 1);
    ::setenv("XDG_RUNTIME_DIR", file("run").c_str(), 1);
    ::setenv("HOME", folder_.path().c_str(), 1);
    ::unsetenv("JOURNAL_STREAM");
  }
  ~SystemTest() override {
    constexpr std::size_t kMostShown = 10'000;
    if (!daemon_ || !HasFailure()) return;
    const std::string& all = daemon_->err();
    std::fprintf(stderr, "%s", all.substr(all.size() - std::min(all.size(), kMostShown)).c_str());
  }

  [[nodiscard]] std::string file(const std::string& name) const {
    return folder_.path() + "/" + name;
  }
  void configure(const std::string& toml) const {
    std::filesystem::create_directories(file("portfwd"));
    std::ofstream(file("portfwd/config.toml")) << toml;
  }

  bool until(const std::function<bool()>& done) {
    return turn_until(loop_, [&] {
      if (manager_listens_) notify_.read();
      return done();
    });
  }

  /// Starts the daemon and returns when it is ready.
  void start(std::vector<std::string> command = {PORTFWD_PATH}) {
    launch(std::move(command));
    ASSERT_TRUE(until([&] { return notify_.heard("READY=1") || daemon_->ended(); }));
    ASSERT_FALSE(daemon_->ended()) << daemon_->err();
  }
  void launch(std::vector<std::string> command = {PORTFWD_PATH}) {
    notify_.forget();
    bus_client_ = std::make_unique<BusClient>(loop_, bus_.address());
    bus_client_->listen();
    daemon_ = std::make_unique<Program>(loop_, std::move(command));
  }
  /// Waits for the daemon to end. @return its exit status
  int ended() {
    EXPECT_TRUE(until([&] { return daemon_->ended(); })) << "it does not end";
    return daemon_->status();
  }
  BusClient& bus() { return *bus_client_; }

  // ---- its output

  Said run(std::vector<std::string> command) {
    Program program(loop_, std::move(command));
    EXPECT_TRUE(until([&] { return program.ended(); }));
    return {program.status(), program.out(), program.err()};
  }
  Said ctl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), PORTFWDCTL_PATH);
    return run(std::move(arguments));
  }
  Json json(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "--json");
    const Said said = ctl(std::move(arguments));
    EXPECT_EQ(said.status, 0) << said.err;
    return Json::parse(said.out, nullptr, false);
  }
  /// The forward of a container's port in the last list; null if there is none.
  Json forward_of(Port port, pid_t container = 0) {
    const std::string owner = container == 0 ? "" : container_of(container)["id"];
    for (const Json& forward : json({"list"})) {
      const bool theirs = container == 0 || forward["container"]["id"] == owner;
      if (theirs && forward["container_port"] == port) return forward;
    }
    return nullptr;
  }
  /// Null if there is none.
  Json container_of(pid_t pid) {
    for (const Json& container : json({"containers", "--all"})) {
      if (container["pid"] == pid) return container;
    }
    return nullptr;
  }
  [[nodiscard]] int lines_with(const std::string& words) const {
    int count = 0;
    for (std::size_t at = 0; (at = daemon_->err().find(words, at)) != std::string::npos; ++at) {
      ++count;
    }
    return count;
  }

  // ---- its events

  /// Signals PortAdded or PortRemoved for this port so far.
  [[nodiscard]] std::vector<BusClient::Signal> told(const std::string& member, Port port) {
    std::vector<BusClient::Signal> found;
    for (const auto& signal : bus().signals(member)) {
      if (signal.body[1]["ContainerPort"] == port) found.push_back(signal);
    }
    return found;
  }
  bool wait_for_added(Port port, std::size_t times = 1) {
    return until([&] { return told("PortAdded", port).size() >= times; });
  }
  bool wait_for_removed(Port port, std::size_t times = 1) {
    return until([&] { return told("PortRemoved", port).size() >= times; });
  }
  bool wait_for_container(pid_t pid) {
    return until([&] {
      return std::ranges::any_of(bus().signals("ContainerAdded"), [pid](const auto& s) {
        return s.body[1]["Pid"] == static_cast<std::uint32_t>(pid);
      });
    });
  }

  // ---- bytes

  /// Connects and reads up to the first newline. "" when the connection was refused, reset or
  /// closed before.
  std::string greeting(const Endpoint& at) {
    const UniqueFd fd = new_socket(at.address.family());
    if (const int outcome = try_connect(fd, at); outcome != 0 && outcome != EINPROGRESS) return "";
    return read_line(fd);
  }
  std::string read_line(const UniqueFd& fd) {
    Received got;
    until([&] {
      read_available(fd, got);
      return got.ending != Ending::None || got.text.ends_with('\n');
    });
    return got.text;
  }
  /// Whether a line that is sent comes back.
  bool echoes(const UniqueFd& fd, const std::string& line) {
    write_all(fd, line + "\n");
    return read_line(fd) == line + "\n";
  }
  static bool refused(const Endpoint& at) {
    const UniqueFd fd(::socket(address_family(at.address.family()), SOCK_STREAM | SOCK_CLOEXEC, 0));
    return try_connect(fd, at) == ECONNREFUSED;
  }

  // ---- processes

  [[nodiscard]] std::vector<pid_t> pids_named(std::string_view name) const {
    const ProcDir proc;
    std::vector<ProcDir::Entry> all;
    EXPECT_TRUE(proc.list(all));
    std::vector<pid_t> found;
    for (const auto& entry : all) {
      if (proc.comm(entry.pid) == name) found.push_back(entry.pid);
    }
    return found;
  }
  [[nodiscard]] std::vector<pid_t> brokers() const { return pids_named("portfwd-broker"); }

  PrivateBus bus_;
  TempDir folder_;
  SystemClock clock_;
  EventLoop loop_{clock_};
  ManagerSocket notify_;
  bool manager_listens_ = true;
  std::unique_ptr<BusClient> bus_client_;
  std::unique_ptr<Program> daemon_;
};

}  // namespace portfwd::testing_support
