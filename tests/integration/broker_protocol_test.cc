// The real broker, with requests written by hand: invalid requests are answered, and neither leak
// descriptors nor end the broker.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <vector>

#include "broker/client/broker_client.h"
#include "broker/client/broker_launcher.h"
#include "build_paths.h"

namespace portfwd {
namespace {

struct BrokerProtocolTest : testing::Test {
  BrokerProtocolTest() : process(std::move(launcher.launch()).value()) {}
  ~BrokerProtocolTest() override {
    launcher.discard(std::move(process));
    while (launcher.dying() != 0) EXPECT_TRUE(loop.turn(std::chrono::seconds(1)));
  }

  void send(std::span<const std::byte> bytes, int fd = -1) const {
    const auto sent = send_with_fds(process.socket.get(), bytes, {&fd, fd >= 0 ? 1U : 0U});
    ASSERT_TRUE(sent) << sent.error().text();
  }
  void send(const broker::Request& request, int fd = -1) const {
    send(std::as_bytes(std::span(&request, 1)), fd);
  }
  /// Receives the next reply and closes its descriptors.
  [[nodiscard]] broker::Reply reply() const {
    pollfd ready{process.socket.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&ready, 1, 20'000), 1);
    broker::Reply bytes;
    bytes.error = -1;
    const auto got =
        receive_with_fds(process.socket.get(), std::as_writable_bytes(std::span(&bytes, 1)));
    EXPECT_EQ(got.outcome, ReceivedMessage::Outcome::Message) << "the broker has ended";
    EXPECT_EQ(got.fds.size(), got.outcome == ReceivedMessage::Outcome::Message ? bytes.count : 0);
    return bytes;
  }
  [[nodiscard]] broker::Reply answer_to(const broker::Request& request, int fd = -1) const {
    send(request, fd);
    return reply();
  }
  /// A valid request, changed by `spoil`.
  [[nodiscard]] static broker::Request spoilt(const std::function<void(broker::Request&)>& spoil) {
    broker::Request request = stream_sockets(Family::V4, 1);
    request.id = 5;
    spoil(request);
    return request;
  }
  void join() const {
    broker::Request request;
    request.id = 1;
    EXPECT_EQ(answer_to(request).error, 0);
  }
  void expect_still_good() const {
    const broker::Reply good = answer_to(spoilt([](auto&) {}));
    EXPECT_EQ(good.error, 0);
    EXPECT_EQ(good.id, 5u);
    EXPECT_EQ(good.count, 1u);
  }
  /// Number of open descriptors of the broker. It closes those of a reply before it reads the next
  /// request, so one more request is sent first.
  [[nodiscard]] std::size_t open_files() const {
    EXPECT_NE(answer_to(spoilt([](auto& r) { r.count = 0; })).error, 0);
    const std::filesystem::path path = "/proc/" + std::to_string(process.pid) + "/fd";
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path), {}));
  }

  SystemClock clock;
  EventLoop loop{clock};
  SpawnLauncher launcher{loop, PORTFWD_BROKER_PATH};
  BrokerProcess process;
};

TEST_F(BrokerProtocolTest, RejectsRequestsBeforeJoin) {
  EXPECT_EQ(answer_to(spoilt([](auto&) {})).error, EPROTO);
  join();
  expect_still_good();
}

TEST_F(BrokerProtocolTest, RejectsASecondJoin) {
  join();
  EXPECT_EQ(answer_to(spoilt([](auto& r) { r.op = broker::Op::Join; })).error, EALREADY);
  expect_still_good();
}

TEST_F(BrokerProtocolTest, ShortLongAndEmptyMessagesAreAnswered) {
  join();
  const std::vector<std::byte> bytes(2 * sizeof(broker::Request), std::byte{0xff});
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, sizeof(broker::Request) - 1,
                                 sizeof(broker::Request) + 1, bytes.size()}) {
    send(std::span(bytes).first(size));
    const broker::Reply told = reply();
    EXPECT_EQ(told.error, EINVAL) << size;
    EXPECT_EQ(told.step, broker::Step::Request);
  }
  expect_still_good();
}

TEST_F(BrokerProtocolTest, RejectsInvalidRequestsWithTheirId) {
  join();
  const std::vector<std::function<void(broker::Request&)>> ways{
      [](auto& r) { r.version = 99; },
      [](auto& r) { r.op = static_cast<broker::Op>(77); },
      [](auto& r) { r.count = 0; },
      [](auto& r) { r.count = 254; },
      [](auto& r) { r.family = AF_PACKET; },
      [](auto& r) { r.type = SOCK_RAW; },
      [](auto& r) { r.protocol = IPPROTO_ICMP; },
      [](auto& r) { r.family = AF_NETLINK, r.type = SOCK_RAW, r.protocol = NETLINK_ROUTE; },
      [](auto& r) { r.op = broker::Op::Listen, r.port = 65536; },
      [](auto& r) { r.op = broker::Op::UnixConnect, std::strcpy(r.path, "/x"); },
  };
  for (std::size_t i = 0; i < ways.size(); ++i) {
    const broker::Reply told = answer_to(spoilt(ways[i]));
    EXPECT_NE(told.error, 0) << i;
    EXPECT_EQ(told.id, 5u) << i;
    EXPECT_EQ(told.count, 0u) << i;
    EXPECT_EQ(told.step, broker::Step::Request) << i;
  }
  expect_still_good();
}

TEST_F(BrokerProtocolTest, RejectsADescriptorThatIsNotANetworkNamespace) {
  join();
  const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd mounts(::open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
  for (const UniqueFd* fd : {&file, &mounts}) {
    const broker::Reply told = answer_to(spoilt([](auto&) {}), fd->get());
    EXPECT_EQ(told.error, EINVAL);
    EXPECT_EQ(told.step, broker::Step::EnterNet);
  }
  expect_still_good();
}

TEST_F(BrokerProtocolTest, RejectsEnteringNamespacesAtHomeHere) {
  broker::Request here;
  here.id = 1;
  here.home = broker::Home::Here;
  EXPECT_EQ(answer_to(here).error, 0);
  const UniqueFd own(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(answer_to(spoilt([](auto&) {}), own.get()).error, EPERM);
  expect_still_good();
  EXPECT_EQ(open_files(), 1u);
}

TEST_F(BrokerProtocolTest, ServesOnlyWhatItHasJoinedFor) {
  const UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  const UniqueFd netns(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  const auto at_path = [](auto& r) {
    r.op = broker::Op::UnixConnect, r.type = SOCK_STREAM, std::strcpy(r.path, "/nothing");
  };
  const auto at_name = [&](auto& r) { at_path(r), r.name_size = 8; };
  const auto at_removal = [&](auto& r) { at_path(r), r.op = broker::Op::UnixRemove; };
  struct Row {
    broker::Home home;
    bool sockets, paths, names, names_elsewhere;
  };
  for (const Row& row : {Row{broker::Home::Private, true, false, false, false},
                         Row{broker::Home::Here, true, false, true, false},
                         Row{broker::Home::Names, false, false, false, true},
                         Row{broker::Home::Paths, false, true, true, false},
                         Row{broker::Home::HostPaths, false, true, true, false}}) {
    SCOPED_TRACE(static_cast<int>(row.home));
    launcher.discard(std::move(process));
    process = std::move(launcher.launch()).value();
    broker::Request request;
    request.id = 1;
    request.home = row.home;
    ASSERT_EQ(answer_to(request).error, 0);
    EXPECT_EQ(answer_to(spoilt([](auto&) {})).error, row.sockets ? 0 : EPERM);
    EXPECT_EQ(answer_to(spoilt(at_path), root.get()).error, row.paths ? ENOENT : EPERM);
    EXPECT_EQ(answer_to(spoilt(at_removal), root.get()).error, row.paths ? ENOENT : EPERM);
    EXPECT_EQ(answer_to(spoilt(at_name)).error, row.names ? ECONNREFUSED : EPERM);
    EXPECT_EQ(answer_to(spoilt(at_name), netns.get()).error,
              row.names_elsewhere ? ECONNREFUSED : EPERM);
  }
}

TEST_F(BrokerProtocolTest, AThousandBadRequestsLeaveNoDescriptorBehind) {
  join();
  const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const std::size_t before = open_files();
  for (int i = 0; i < 250; ++i) {
    (void)answer_to(spoilt([](auto& r) { r.count = 0; }), file.get());
    (void)answer_to(spoilt([](auto& r) { r.version = 0; }), file.get());
    (void)answer_to(spoilt([](auto&) {}), file.get());
    send(std::as_bytes(std::span("short")), file.get());
    EXPECT_EQ(reply().error, EINVAL);
  }
  EXPECT_EQ(open_files(), before);
  expect_still_good();
}

TEST_F(BrokerProtocolTest, AFailedJoinEndsIt) {
  const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  broker::Request request;
  request.id = 1;
  const broker::Reply told = answer_to(request, file.get());
  EXPECT_EQ(told.error, EINVAL);
  EXPECT_EQ(told.step, broker::Step::JoinUser);
  pollfd end{process.pidfd.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&end, 1, 20'000), 1);
}

TEST_F(BrokerProtocolTest, ItEndsWithTheDaemon) {
  join();
  process.socket.reset();
  pollfd end{process.pidfd.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&end, 1, 20'000), 1);
  siginfo_t how{};
  const auto id = static_cast<id_t>(process.pidfd.get());
  ASSERT_EQ(::waitid(P_PIDFD, id, &how, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(how.si_code, CLD_EXITED) << "its filter lets it end in peace";
}

}  // namespace
}  // namespace portfwd
