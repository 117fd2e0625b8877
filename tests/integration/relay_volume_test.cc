// Much data at full speed, in both directions at once, every byte compared. The far ends have
// threads of their own, so that the relay is never idle.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "support/relay_rig.h"

namespace portfwd {
namespace {

using namespace testing_support;

#ifdef PORTFWD_QUICK_BUILD
constexpr std::size_t kVolume = 5'000'000'000;  ///< bytes each way: ten gigabytes through one relay
#else
constexpr std::size_t kVolume =
    100'000'000;  ///< a build for debugging or with sanitizers is slower
#endif
constexpr std::size_t kLess = 50'000'000;

/// The data that both ends send repeatedly: of a prime size, so that chunks never align.
const std::string& block() {
  static const std::string kBlock = random_text(262'139);
  return kBlock;
}

void say(int fd, std::size_t total) {
  for (std::size_t sent = 0; sent < total;) {
    const std::size_t at = sent % block().size();
    const std::size_t size = std::min(block().size() - at, total - sent);
    const ssize_t n = ::send(fd, block().data() + at, size, MSG_NOSIGNAL);
    if (n < 0 && (errno != EAGAIN || !wait_for(fd, POLLOUT))) return;
    sent += static_cast<std::size_t>(std::max<ssize_t>(n, 0));
  }
  ::shutdown(fd, SHUT_WR);
}

/// @return number of correct bytes before the end of stream
std::size_t hear(int fd) {
  std::vector<char> buffer(block().size());
  for (std::size_t got = 0;;) {
    const std::size_t at = got % block().size();
    const ssize_t n = ::recv(fd, buffer.data(), block().size() - at, 0);
    if (n == 0) return got;
    if (n < 0 && (errno != EAGAIN || !wait_for(fd, POLLIN))) return 0;
    if (n < 0) continue;
    if (std::memcmp(buffer.data(), block().data() + at, static_cast<std::size_t>(n)) != 0) return 0;
    got += static_cast<std::size_t>(n);
  }
}

void carry(RelayRig& rig, std::size_t each_way) {
  std::atomic<int> finished = 0;
  std::size_t up = 0;
  std::size_t down = 0;
  std::vector<std::jthread> threads;
  threads.emplace_back([&] { say(rig.client.get(), each_way); });
  threads.emplace_back([&] { say(rig.target.get(), each_way); });
  threads.emplace_back([&] { up = hear(rig.target.get()), ++finished; });
  threads.emplace_back([&] { down = hear(rig.client.get()), ++finished; });
  while (finished < 2) ASSERT_TRUE(rig.loop.turn(std::chrono::milliseconds(20)));
  threads.clear();
  EXPECT_EQ(up, each_way);
  EXPECT_EQ(down, each_way);
  EXPECT_EQ(rig.counters.bytes_in, each_way);
  EXPECT_EQ(rig.counters.bytes_out, each_way);
  EXPECT_FALSE(rig.relay) << "both have ended";
  EXPECT_EQ(rig.context.pipes().leased(), 0U);
}

struct VolumeTest : testing::TestWithParam<Kinds> {};

INSTANTIATE_TEST_SUITE_P(Streams, VolumeTest,
                         testing::Values(Kinds{StreamKind::Tcp6, StreamKind::Tcp6},
                                         Kinds{StreamKind::Unix, StreamKind::Unix},
                                         Kinds{StreamKind::Tcp4, StreamKind::Unix}),
                         kinds_name);

TEST_P(VolumeTest, ManyBytesArriveUnchangedBothWays) {
  RelayRig rig(GetParam());
  carry(rig, kLess);
}

TEST(VolumeTest, TenGigabytesArriveUnchanged) {
  RelayRig rig({StreamKind::Tcp4, StreamKind::Tcp4});
  carry(rig, kVolume);
}

}  // namespace
}  // namespace portfwd
