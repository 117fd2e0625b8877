// Arbitrary requests of a daemon to portfwd-relay: really received, checked and carried out. Input:
// messages, each as a number of descriptors (one byte), their kind (one byte: 0 Unix streams, 1
// Unix records, 2 pipes, with something to read), a length (one byte) and the bytes.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "broker/client/broker_launcher.h"
#include "relay_process/server.h"

namespace {

using namespace portfwd;

constexpr int kMostMessages = 32;

void require(bool condition) {
  if (!condition) std::abort();
}

struct SocketPair {
  explicit SocketPair(int type) {
    int ends[2];
    require(::socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    near = UniqueFd(ends[0]);
    far = UniqueFd(ends[1]);
  }
  UniqueFd near, far;
};

/// Sockets to send, of which the fuzzer keeps the far ends until the end of the input.
class Sockets {
 public:
  std::vector<int> make(std::size_t count, unsigned kind) {
    std::vector<int> numbers;
    for (std::size_t i = 0; i < count; ++i) {
      if (kind == 2) {
        int ends[2];
        require(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
        kept_.emplace_back(ends[1]);
        numbers.push_back(near_.emplace_back(ends[0]).get());
      } else {
        SocketPair pair(kind == 1 ? SOCK_SEQPACKET : SOCK_STREAM);
        require(::send(pair.far.get(), "bytes", 5, 0) == 5);
        kept_.push_back(std::move(pair.far));
        numbers.push_back(near_.emplace_back(std::move(pair.near)).get());
      }
    }
    return numbers;
  }
  void close_sent() { near_.clear(); }

 private:
  std::vector<UniqueFd> near_;
  std::vector<UniqueFd> kept_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ::signal(SIGPIPE, SIG_IGN);
  const SystemClock clock;
  EventLoop loop(clock);
  RelayContext context(loop);
  SocketPair pair(SOCK_SEQPACKET);
  relay_process::Server server(context, std::move(pair.near));
  require(server.start().has_value());
  Sockets sockets;
  std::span input(data, size);
  for (int i = 0; i < kMostMessages && input.size() >= 3; ++i) {
    const std::size_t fds = input[0] % 6;
    const unsigned kind = input[1] % 3;
    const std::size_t length = std::min<std::size_t>(input[2], input.size() - 3);
    const std::vector<int> numbers = sockets.make(fds, kind);
    (void)send_with_fds(pair.far.get(), std::as_bytes(input.subspan(3, length)), numbers);
    sockets.close_sent();
    input = input.subspan(3 + length);
    require(loop.turn(Duration::zero()).has_value());
  }
  for (int i = 0; i < 3; ++i) require(loop.turn(Duration::zero()).has_value());
  return 0;
}
