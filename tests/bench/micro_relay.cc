// Cost of a connection for the daemon: to authorize and dial it, and each turn of its pumps. On
// real sockets, so most of each figure is the kernel's; only the daemon's own calls are timed, not
// those of clients and servers. The median counts, since other programs use the machine too.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "relay/client_identity.h"
#include "relay/pump.h"
#include "support/forward_rig.h"

namespace portfwd {
namespace {

using namespace testing_support;

/// Times single operations, and reports their median.
class Stopwatch {
 public:
  explicit Stopwatch(benchmark::State& state) : state_(state) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    if (seconds_.empty()) return;
    std::ranges::sort(seconds_);
    state_.counters["median_us"] = 1e6 * seconds_[seconds_.size() / 2];
    state_.counters["p99_us"] = 1e6 * seconds_[seconds_.size() * 99 / 100];
  }

  template <class Work>
  void time(const Work& work) {
    const auto began = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    seconds_.push_back(took.count());
    state_.SetIterationTime(took.count());
  }

 private:
  benchmark::State& state_;
  std::vector<double> seconds_;
};

// ---- a new connection --------------------------------------------------------------------------

/// Additional cost of accepting a client while other programs use the machine: right after a
/// connection was made, and after some MiB of other data have passed through the caches (0: none;
/// 2: about the nearer caches; 32: all caches).
void whose_is_the_client(benchmark::State& state) {
  ClientIdentity identity(*SockDiag::open(), ::geteuid(), Subuids("/etc/subuid", "", ::geteuid()));
  const UniqueFd listener = listen_on_loopback(Family::V4);
  const Endpoint ours = *local_endpoint(listener.get());
  std::vector<char> others(static_cast<std::size_t>(state.range(0)) * 1024 * 1024);
  Stopwatch watch(state);
  for (auto _ : state) {
    const UniqueFd client = connect_to_port(ours);
    const UniqueFd accepted = accept_from(listener);
    const Endpoint theirs = *peer_endpoint(accepted.get());
    for (std::size_t i = 0; i < others.size(); i += 64) ++others[i];
    bool allowed = false;
    watch.time([&] { allowed = identity.examine(accepted.get(), theirs, ours, {}).allowed(); });
    if (!allowed) state.SkipWithError("refused");
  }
}
BENCHMARK(whose_is_the_client)
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime()
    ->Iterations(2000)
    ->Arg(0)
    ->Arg(2)
    ->Arg(32);

/// From a client in the queue to its relay: gate, identity, a socket, connect(2), two pumps. The
/// argument is the number of connections that are held beside it.
void accept_path(benchmark::State& state) {
  ForwardRig rig;
  rig.start();
  std::vector<StreamPair> beside(static_cast<std::size_t>(state.range(0)));
  for (StreamPair& held : beside) held = rig.connect_through();
  Stopwatch watch(state);
  for (auto _ : state) {
    const UniqueFd client = connect_to_port(kBoth[0]);
    const auto before = rig.port->counters().active;
    watch.time([&] {
      while (rig.port->counters().active == before || rig.port->waiting() > 0) {
        (void)rig.loop.turn(std::chrono::seconds(1));
      }
    });
    UniqueFd inside = accept_from(rig.target);
    reset(inside);
    rig.until([&] { return rig.port->counters().active == before; });
  }
}
BENCHMARK(accept_path)
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime()
    ->Iterations(2000)
    ->Arg(0)
    ->Arg(2000);

// ---- bytes of a connection ---------------------------------------------------------------------

/// A pump between two connections, with buffers for everything that one turn may move.
class Pumping {
 public:
  Pumping() {
    for (const StreamPair* pair : {&from_, &to_}) {
      for (const int end : {pair->first.get(), pair->second.get()}) {
        const int room = 4 * 1024 * 1024;
        ::setsockopt(end, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
        ::setsockopt(end, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
        context_.tune(end);
      }
    }
  }

  void give(std::size_t bytes) {
    for (std::size_t sent = 0; sent < bytes;) {
      const auto left = std::min(bytes - sent, buffer_.size());
      if (!wait_for(from_.first.get(), POLLOUT)) return;
      sent += send_some(from_.first.get(), std::span(buffer_).first(left)).bytes;
    }
  }
  /// Runs until all bytes have arrived, in as many turns as needed.
  void turn(std::size_t bytes) {
    const std::uint64_t goal = delivered_ + bytes;
    while (delivered_ < goal && pump_.run(way_) != PumpState::SinkBroken) {
    }
  }
  void take(std::size_t bytes) {
    for (std::size_t got = 0; got < bytes;) {
      if (!wait_for(to_.second.get(), POLLIN)) return;
      got += receive_some(to_.second.get(), buffer_).bytes;
    }
  }
  [[nodiscard]] bool bulk() const { return pump_.bulk(); }

 private:
  SystemClock clock_;
  EventLoop loop_{clock_};
  RelayContext context_{loop_};
  StreamPair from_ = tcp_pair(Family::V4);
  StreamPair to_ = tcp_pair(Family::V4);
  std::vector<std::byte> buffer_ = std::vector<std::byte>(256 * 1024);
  std::uint64_t delivered_ = 0;
  const Pump::Way way_{context_, from_.second.get(), to_.first.get(), delivered_};
  Pump pump_;
};

/// Moves bytes that are queued already from one socket to the other: first as often as the pump
/// needs to choose its method, then measured.
void pump_turn(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  Pumping pumping;
  const auto pass = [&](const auto& turn) {
    pumping.give(bytes);
    turn();
    pumping.take(bytes);
  };
  for (int i = 0; i < 10; ++i) pass([&] { pumping.turn(bytes); });
  Stopwatch watch(state);
  for (auto _ : state) pass([&] { watch.time([&] { pumping.turn(bytes); }); });
  state.SetLabel(pumping.bulk() ? "splices" : "copies");
}
BENCHMARK(pump_turn)
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime()
    ->Iterations(2000)
    ->Arg(64)
    ->Arg(1024)
    ->Arg(16 * 1024)
    ->Arg(64 * 1024)
    ->Arg(1024 * 1024);

}  // namespace
}  // namespace portfwd
