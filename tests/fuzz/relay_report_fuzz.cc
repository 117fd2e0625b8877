// Arbitrary reports of portfwd-relay to the daemon: each of two relays ends exactly once, by a
// report or because its process is not trusted any more. Input: messages, each as a number of
// descriptors (one byte), a length (one byte) and the bytes.
#include <sys/socket.h>

#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "base/log.h"
#include "relay_process/client/relay_process.h"
#include "support/manual_clock.h"

namespace {

using namespace portfwd;

constexpr int kMostMessages = 16;

void require(bool condition) {
  if (!condition) std::abort();
}

std::pair<UniqueFd, UniqueFd> socket_pair(int type) {
  int ends[2];
  require(::socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

class Peer final : public BrokerLauncher {
 public:
  Result<BrokerProcess> launch() override {
    auto [ours, theirs] = socket_pair(SOCK_SEQPACKET);
    theirs_ = std::move(theirs);
    return BrokerProcess{0, UniqueFd(), std::move(ours)};
  }
  void discard(BrokerProcess) override {}

  void send(std::span<const std::uint8_t> bytes, std::size_t fds) const {
    const std::vector<int> copies(fds, theirs_.get());
    (void)send_with_fds(theirs_.get(), std::as_bytes(bytes), copies);  // it may have closed
  }
  void close() { theirs_.reset(); }

 private:
  UniqueFd theirs_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  log::set_level(log::Level::Error);
  testing_support::ManualClock clock;
  EventLoop loop(clock);
  const auto peer = std::make_shared<Peer>();
  RelayProcesses processes(loop, peer);
  const auto process = processes.process_of("box");
  Counters counters;
  std::vector<RelayedConnection*> over;
  RelayGroup group{counters, [&over](RelayedConnection& relay) { over.push_back(&relay); }};
  std::vector<std::unique_ptr<RelayedConnection>> relays;
  for (int i = 0; i < 2; ++i) {
    relays.push_back(
        process->carry(group, socket_pair(SOCK_STREAM).first, socket_pair(SOCK_STREAM).first, {}));
  }
  require(loop.turn(Duration::zero()).has_value());
  std::span input(data, size);
  for (int i = 0; i < kMostMessages && input.size() >= 2; ++i) {
    const std::size_t fds = input[0] % 4;
    const std::size_t length = std::min<std::size_t>(input[1], input.size() - 2);
    peer->send(input.subspan(2, length), fds);
    input = input.subspan(2 + length);
    require(loop.turn(Duration::zero()).has_value());
  }
  peer->close();
  require(loop.turn(Duration::zero()).has_value());
  require(over.size() == 2 && over[0] != over[1]);
  require(counters.failed <= 2);
  return 0;
}
