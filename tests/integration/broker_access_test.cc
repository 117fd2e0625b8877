// Retries of entering a container when its broker exits again and again, by a manual clock. The
// test itself plays the broker.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "access/netns_access.h"
#include "base/log.h"
#include "broker/client/broker_launcher.h"
#include "support/fake_broker.h"
#include "support/local_carriers.h"
#include "support/manual_clock.h"
#include "support/sandbox.h"
#include "support/test_netns.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;

class BrokerAccessTest : public testing::Test, private AccessObserver {
 protected:
  BrokerAccessTest() { log::set_level(log::Level::Error); }
  ~BrokerAccessTest() override { log::set_level(log::Level::Info); }

  void on_access_added(ContainerAccess&) override {}
  void on_access_changed(ContainerAccess&) override {}
  void on_listeners(ContainerAccess&) override {}
  void on_access_removed(ContainerAccess&, RemovalReason) override {}
  [[nodiscard]] BrokerAccess::Entry entry() {
    const std::string path = "/proc/" + std::to_string(ns_.pid()) + "/ns/net";
    UniqueFd netns(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    auto broker = brokers_.enter(netns.get());
    EXPECT_TRUE(broker);
    return {"web", ns_.pid(), netns_of(ns_.pid()), std::move(netns), std::move(*broker)};
  }
  /// Advances the clock until another broker is started.
  /// @return by how much
  Duration until_started() {
    const int before = fake_->launched;
    for (Duration passed{}; passed < 60s; passed += 10ms, clock_.advance(10ms)) {
      EXPECT_TRUE(loop_.turn(Duration::zero()));
      if (fake_->launched > before) return passed;
    }
    return Duration::max();
  }

  struct NoNames final : ProcessNames {
    Search find(std::uint64_t, std::vector<std::uint32_t>, Done) override { return nullptr; }
  };

  ManualClock clock_;
  EventLoop loop_{clock_};
  Pace pace_{loop_, Settings::Detect{}};
  CloseRateLimit rate_limit_;
  UdpInterest udp_;
  DiagModules modules_{loop_, [](Protocol) { return Result<void>(); }};
  RelayContext relay_{loop_};
  NoNames names_;
  std::shared_ptr<FakeBroker> fake_ = std::make_shared<FakeBroker>();
  BrokerSet brokers_{loop_, fake_, NamespaceOwner::this_process()};
  LocalCarriers carriers_{relay_};
  PathBrokers path_brokers_{loop_, fake_, carriers_};
  TestNetns ns_;
  UniqueFd server_ = ns_.listen({IpAddress::loopback(Family::V4), 8080});
  BrokerAccess access_{
      {{loop_, pace_, rate_limit_, udp_, modules_}, names_, *this, path_brokers_}, relay_, entry()};
};

TEST_F(BrokerAccessTest, RetriesWithinASecondHoweverOftenItsBrokerIsKilled) {
  ASSERT_NE(until_started(), Duration::max());
  for (int i = 0; i < 20; ++i) {
    fake_->theirs.reset();
    EXPECT_LE(until_started(), BrokerClient::kLongestPause + 10ms) << "after death " << i;
  }
  EXPECT_EQ(fake_->next_request()->op, broker::Op::Join);
  EXPECT_EQ(fake_->next_request()->family, AF_NETLINK);
  EXPECT_TRUE(access_.all_reported()) << "nobody waits for what is not known soon";
}

}  // namespace
}  // namespace portfwd
