// Share of the direct connection's rate that a relay of Unix stream sockets keeps: what portfwd
// does for a forward to a path, between accept(2) and the end of a connection, with its
// portfwd-relay, beside the peers that relay such sockets; and from a TCP port to a path, as a
// share of a direct TCP connection. Usage: unix_bench [--quick] [RELAY...]. One JSON object a line;
// tests/bench/run makes a table.
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>

#include "bench/comparison.h"
#include "bench/container.h"
#include "bench/relays.h"
#include "build_paths.h"
#include "relay/relay.h"
#include "relay_process/client/relay_process.h"
#include "support/temp_dir.h"

namespace portfwd::bench {
namespace {

using namespace std::chrono_literals;

constexpr int kPassRights = 83;  // SO_PASSRIGHTS, linux/socket.h of Linux 6.16

/// As the daemon and its broker do when they make a socket.
UniqueFd without_descriptors(UniqueFd socket) {
  const int off = 0;
  (void)::setsockopt(socket.get(), SOL_SOCKET, kPassRights, &off, sizeof off);
  return socket;
}

/// What a forward does between accept(2) and the end of a connection, and nothing else.
class UnixForward final : private IoHandler {
 public:
  UnixForward(UniqueFd listener, const Place& to) : listener_(std::move(listener)), to_(to) {}

  [[noreturn]] void run() {
    ::signal(SIGPIPE, SIG_IGN);
    if (!source_.watch(EPOLLIN) || !loop_.run()) ::_exit(1);
    ::_exit(0);
  }

 private:
  static constexpr int kAcceptsPerTurn = 16;

  void on_io(IoSource&, std::uint32_t) override {
    for (int i = 0; i < kAcceptsPerTurn; ++i) {
      UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!client.valid()) return;
      UniqueFd target = without_descriptors(make_socket(to_, SOCK_NONBLOCK));
      const SockAddr at = to_.sockaddr();
      if (::connect(target.get(), at.get(), at.length) != 0) continue;
      context_.tune(client.get());
      (void)relays_.add(process_->carry(group_, std::move(client), std::move(target), {}));
    }
  }

  SystemClock clock_;
  EventLoop loop_{clock_};
  RelayContext context_{loop_};
  RelayProcesses processes_{loop_, std::make_shared<SpawnLauncher>(loop_, PORTFWD_RELAY_PATH)};
  std::shared_ptr<portfwd::RelayProcess> process_ = processes_.process_of("container");
  Counters counters_;
  RelayGroup group_{counters_,
                    [this](RelayedConnection& relay) { loop_.retire(relays_.remove(relay)); }};
  SlotVector<RelayedConnection> relays_;
  UniqueFd listener_;
  IoSource source_{loop_, listener_.get(), *this};
  Place to_;
};

RelayProcess start_server(Place at) {
  UniqueFd listener = listen_at(at, SOCK_NONBLOCK);
  if (at.path.empty()) at.port = port_of(listener);
  const pid_t pid = fork_group();
  if (pid == 0) serve_loads(std::move(listener));
  return {"server", at, pid};
}

RelayProcess start_forward(std::string name, Place at, const Place& to) {
  UniqueFd listener = without_descriptors(listen_at(at, SOCK_NONBLOCK));
  if (at.path.empty()) at.port = port_of(listener);
  const pid_t pid = fork_group();
  if (pid == 0) UnixForward(std::move(listener), to).run();
  return {std::move(name), at, pid};
}

/// A relay's processes, and their children in groups of their own, such as portfwd-relay.
std::vector<pid_t> processes_of(const RelayProcess& relay) {
  std::vector<pid_t> all = relay.processes();
  std::vector<pid_t> children;
  for (const pid_t parent : all) {
    std::ifstream file(fmt::format("/proc/{0}/task/{0}/children", parent));
    for (pid_t child = 0; file >> child;) children.push_back(child);
  }
  for (const pid_t child : children) {
    if (std::ranges::find(all, child) == all.end()) all.push_back(child);
  }
  return all;
}

Way way_of(const RelayProcess& relay) {
  return {relay.name(), relay.place(), 0, [&relay] { return processes_of(relay); }};
}

void compare(const Options& options, std::vector<Way> ways, const RelayProcess& server) {
  Comparison comparison(std::move(ways), {kLoads[0], kLoads[1], kLoads[4], kLoads[5], kLoads[8]},
                        server.processes().front());
  comparison.run(options.quick ? 1 : 5, options.quick ? 200ms : 700ms);
  comparison.tell();
}

int run(const Options& options) {
  allow_all_descriptors();
  const testing_support::TempDir folder;
  const RelayProcess server = start_server({.path = folder.path() + "/server"});
  const RelayProcess ours =
      start_forward("portfwd", {.path = folder.path() + "/portfwd"}, server.place());
  const std::list<RelayProcess> peers = start_unix_peers(server.place().path, folder.path());
  std::vector<Way> ways{{"direct, Unix", server.place()}};
  const auto add = [&](const RelayProcess& relay) {
    if (!options.runs(relay.name())) return;
    ways.push_back(way_of(relay));
    ways.back().name += ", Unix";
  };
  add(ours);
  for (const RelayProcess& peer : peers) add(peer);
  compare(options, ways, server);
  if (!options.runs("portfwd")) return 0;
  const RelayProcess tcp_server = start_server({});
  const RelayProcess by_port = start_forward("portfwd, Unix by a TCP port", {}, server.place());
  compare(options, {{"direct, TCP", tcp_server.place()}, way_of(by_port)}, tcp_server);
  return 0;
}

}  // namespace
}  // namespace portfwd::bench

int main(int argc, char** argv) {
  return portfwd::bench::run(portfwd::bench::parse_options(argc, argv));
}
