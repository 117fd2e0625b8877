// Share of the direct connection's rate that a relay of Unix stream sockets keeps: the daemon's own
// Relay between two paths, in a process by itself since no forward leads to a path yet, beside the
// peers that relay such sockets. Usage: unix_bench [--quick] [RELAY...]. One JSON object a line;
// tests/bench/run makes a table.
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>

#include "bench/comparison.h"
#include "bench/container.h"
#include "bench/relays.h"
#include "relay/relay.h"
#include "support/temp_dir.h"

namespace portfwd::bench {
namespace {

using namespace std::chrono_literals;

/// What a forward does between accept(2) and the end of a connection, and nothing else.
class UnixRelay final : private IoHandler {
 public:
  UnixRelay(UniqueFd listener, const Place& to) : listener_(std::move(listener)), to_(to) {}

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
      UniqueFd target = make_socket(to_, SOCK_NONBLOCK);
      const SockAddr at = to_.sockaddr();
      if (::connect(target.get(), at.get(), at.length) != 0) continue;
      RelayedConnection& relay = relays_.add(
          std::make_unique<Relay>(context_, group_, std::move(client), std::move(target)));
      if (!relay.start()) group_.on_over(relay);
    }
  }

  SystemClock clock_;
  EventLoop loop_{clock_};
  RelayContext context_{loop_};
  Counters counters_;
  RelayGroup group_{counters_, [this](RelayedConnection& relay) { loop_.retire(relays_.remove(relay)); }};
  SlotVector<RelayedConnection> relays_;
  UniqueFd listener_;
  IoSource source_{loop_, listener_.get(), *this};
  Place to_;
};

RelayProcess start_server(const Place& at) {
  UniqueFd listener = listen_at(at, SOCK_NONBLOCK);
  const pid_t pid = fork_group();
  if (pid == 0) serve_loads(std::move(listener));
  return {"server", at, pid};
}

RelayProcess start_relay(const Place& at, const Place& to) {
  UniqueFd listener = listen_at(at, SOCK_NONBLOCK);
  const pid_t pid = fork_group();
  if (pid == 0) UnixRelay(std::move(listener), to).run();
  return {"portfwd", at, pid};
}

int run(const Options& options) {
  allow_all_descriptors();
  const testing_support::TempDir folder;
  const RelayProcess server = start_server({.path = folder.path() + "/server"});
  std::list<RelayProcess> relays = start_unix_peers(server.place().path, folder.path());
  const RelayProcess ours = start_relay({.path = folder.path() + "/portfwd"}, server.place());
  std::vector<Way> ways{{"direct, Unix", server.place()}};
  const auto add = [&](const RelayProcess& relay) {
    if (!options.runs(relay.name())) return;
    ways.push_back(
        {relay.name() + ", Unix", relay.place(), 0, [&relay] { return relay.processes(); }});
  };
  add(ours);
  for (const RelayProcess& relay : relays) add(relay);
  Comparison comparison(ways, {kLoads[0], kLoads[1], kLoads[4], kLoads[5], kLoads[8]},
                        server.processes().front());
  comparison.run(options.quick ? 1 : 5, options.quick ? 200ms : 700ms);
  comparison.tell();
  return 0;
}

}  // namespace
}  // namespace portfwd::bench

int main(int argc, char** argv) {
  return portfwd::bench::run(portfwd::bench::parse_options(argc, argv));
}
