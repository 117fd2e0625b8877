// FlowTable: lookup, expiry and eviction of flows. The flows have no sockets.
#include <gtest/gtest.h>

#include <vector>

#include "relay/datagram_port.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;

constexpr TimePoint kStart{1h};

struct TestFlow {
  FlowKey key;
  TimePoint used{};
  FlowRank is = FlowRank::Fleeting;
  FlowTable<TestFlow>::Place place;
  [[nodiscard]] FlowRank rank() const { return is; }
};

FlowKey client(std::uint8_t host, Port port) {
  return {{IpAddress::v4(10, 0, 0, host), port}, std::nullopt};
}

struct FlowTableTest : testing::Test {
  TestFlow& add(const FlowKey& key, TimePoint when = kStart) {
    auto flow = std::make_unique<TestFlow>();
    flow->key = key;
    return table.add(std::move(flow), when);
  }
  void becomes(FlowRank rank, TestFlow& flow, TimePoint when = kStart) {
    flow.is = rank;
    table.touch(flow, when);
  }
  FlowTable<TestFlow> table;
};

TEST_F(FlowTableTest, FindsAFlowByClientAndHostAddress) {
  TestFlow& one = add(client(1, 1000));
  FlowKey elsewhere = client(1, 1000);
  elsewhere.at = IpAddress::v4(10, 0, 0, 9);
  TestFlow& other = add(elsewhere);
  EXPECT_EQ(table.find(client(1, 1000)), &one);
  EXPECT_EQ(table.find(elsewhere), &other);
  EXPECT_EQ(table.find(client(1, 1001)), nullptr);
  EXPECT_EQ(table.find(client(2, 1000)), nullptr);
  TestFlow* const address = &one;
  EXPECT_EQ(table.remove(one).get(), address);
  EXPECT_EQ(table.find(client(1, 1000)), nullptr);
  EXPECT_EQ(table.size(), 1U);
}

TEST_F(FlowTableTest, AFlowEndsNinetySecondsAfterItsLastUse) {
  TestFlow& one = add(client(1, 1));
  TestFlow& two = add(client(1, 2), kStart + 1s);
  table.touch(one, kStart + 50s);
  EXPECT_EQ(table.next_expiry(), kStart + 91s);
  EXPECT_EQ(table.expired(kStart + 90s), nullptr);
  EXPECT_EQ(table.expired(kStart + 91s), &two);
  (void)table.remove(two);
  EXPECT_EQ(table.next_expiry(), kStart + 140s);
}

TEST_F(FlowTableTest, ExpiresAnAnsweredRequestAfterTenSeconds) {
  add(client(1, 1));
  TestFlow& dns = add(client(1, 2));
  becomes(FlowRank::Answered, dns, kStart + 1s);
  EXPECT_EQ(table.next_expiry(), kStart + 11s);
  EXPECT_EQ(table.expired(kStart + 11s), &dns);
  becomes(FlowRank::Young, dns, kStart + 2s);  // it has sent another request
  EXPECT_EQ(table.expired(kStart + 11s), nullptr);
  EXPECT_EQ(table.next_expiry(), kStart + 90s);
}

TEST_F(FlowTableTest, AnEmptyTableHasNothingToWaitFor) {
  EXPECT_FALSE(table.next_expiry());
  EXPECT_EQ(table.expired(TimePoint::max()), nullptr);
}

TEST_F(FlowTableTest, EvictsTheLeastRecentFlowOfTheLargestOwner) {
  add(client(1, 1));
  TestFlow& oldest_of_many = add(client(2, 1));
  TestFlow& used_again = add(client(2, 2));
  add(client(2, 3));
  table.touch(oldest_of_many, kStart + 1s);
  EXPECT_EQ(&table.to_evict(), &used_again);
}

TEST_F(FlowTableTest, EvictsNoFlowOfAnOwnerBelowItsShare) {
  TestFlow& modest = add(client(1, 1));
  becomes(FlowRank::Answered, modest);
  for (Port port = 1; port <= 3; ++port) becomes(FlowRank::Established, add(client(2, port)));
  EXPECT_NE(&table.to_evict(), &modest);
  for (Port port = 1; port <= 3; ++port) (void)table.remove(*table.find(client(2, port)));
  EXPECT_EQ(&table.to_evict(), &modest) << "the other flows are removed";
}

TEST_F(FlowTableTest, EvictsTheFlowOfTheLowestRankFirst) {
  std::vector<TestFlow*> flows;
  for (const FlowRank rank :
       {FlowRank::Established, FlowRank::Young, FlowRank::Fleeting, FlowRank::Answered}) {
    flows.push_back(&add(client(1, static_cast<Port>(flows.size() + 1))));
    becomes(rank, *flows.back(), kStart + 1s * flows.size());
  }
  for (; !flows.empty(); flows.pop_back()) {
    EXPECT_EQ(&table.to_evict(), flows.back());
    (void)table.remove(*flows.back());
  }
}

TEST(FlowRankTest, IsByWhatItHasCarried) {
  EXPECT_EQ(flow_rank(1, 0), FlowRank::Fleeting);
  EXPECT_EQ(flow_rank(2, 0), FlowRank::Fleeting);
  EXPECT_EQ(flow_rank(1, 1), FlowRank::Answered);
  EXPECT_EQ(flow_rank(2, 1), FlowRank::Young);
  EXPECT_EQ(flow_rank(16, 0), FlowRank::Young);
  EXPECT_EQ(flow_rank(1, 16), FlowRank::Established);
}

}  // namespace
}  // namespace portfwd
