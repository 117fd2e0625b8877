// Arbitrary replies of a broker to the daemon's client: its one call gets one result, the two
// sockets that it requested or an error. Input: messages, each as a number of descriptors (one
// byte), a length (one byte) and the bytes.
#include <sys/socket.h>

#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "base/log.h"
#include "broker/client/broker_client.h"
#include "broker/client/broker_launcher.h"
#include "support/manual_clock.h"

namespace {

using namespace portfwd;

constexpr int kMostMessages = 16;

class Peer final : public BrokerLauncher {
 public:
  Result<BrokerProcess> launch() override {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
    theirs_ = UniqueFd(ends[1]);
    return BrokerProcess{0, UniqueFd(), UniqueFd(ends[0])};
  }
  void discard(BrokerProcess) override {}

  void send(std::span<const std::uint8_t> bytes, std::size_t fds) const {
    const std::vector<int> copies(fds, theirs_.get());
    (void)send_with_fds(theirs_.get(), std::as_bytes(bytes), copies);  // the client may have closed
  }

 private:
  UniqueFd theirs_;
};

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  log::set_level(log::Level::Error);
  testing_support::ManualClock clock;
  EventLoop loop(clock);
  const auto peer = std::make_shared<Peer>();
  const auto client = std::make_shared<BrokerClient>(loop, peer, UniqueFd());
  int answers = 0;
  const BrokerCall call = client->call(stream_sockets(Family::V4, 2), -1,
                                       [&answers](const Result<BrokerClient::Sockets>& sockets) {
                                         ++answers;
                                         require(!sockets || sockets->size() == 2);
                                       });
  require(loop.turn(Duration::zero()).has_value());
  std::span input(data, size);
  for (int i = 0; i < kMostMessages && input.size() >= 2; ++i) {
    const std::size_t fds = input[0] % (broker::kMaxCount + 1);
    const std::size_t length = std::min<std::size_t>(input[1], input.size() - 2);
    peer->send(input.subspan(2, length), fds);
    input = input.subspan(2 + length);
    require(loop.turn(Duration::zero()).has_value());
  }
  clock.advance(BrokerClient::kDeadline);
  require(loop.turn(Duration::zero()).has_value());
  require(answers == 1);
  return 0;
}
