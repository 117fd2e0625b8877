// A broker that says anything to the daemon's client: whatever it is, the one call is answered
// once, with the two sockets it asked for or an error. Input: messages, each as a number of
// descriptors (one byte), a length (one byte) and the bytes.
#include <sys/socket.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "base/log.h"
#include "broker/client/broker_client.h"
#include "broker/client/broker_messages.h"
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
    const std::vector<int> numbers(fds, theirs_.get());
    std::vector<char> control(CMSG_SPACE(sizeof(int) * fds));
    iovec part{const_cast<std::uint8_t*>(bytes.data()), bytes.size()};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (fds > 0) {
      header.msg_control = control.data();
      header.msg_controllen = control.size();
      cmsghdr* item = CMSG_FIRSTHDR(&header);
      item->cmsg_level = SOL_SOCKET;
      item->cmsg_type = SCM_RIGHTS;
      item->cmsg_len = CMSG_LEN(sizeof(int) * fds);
      std::memcpy(CMSG_DATA(item), numbers.data(), sizeof(int) * fds);
    }
    (void)::sendmsg(theirs_.get(), &header, MSG_NOSIGNAL);  // the client may have hung up
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
