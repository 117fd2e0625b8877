// Reverse forwards: ports in a container that lead to the host, how they are opened and reached,
// and how long they last.
#include "support/system_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;

const Endpoint kInside4{kV4, 5432};
const Endpoint kInside6{kV6, 5432};

class SystemReverse : public SystemTest {
 protected:
  /// Creates a reverse forward in a box, to host port 15432.
  void forward(const Box& box) {
    ASSERT_TRUE(wait_for_container(box.pid()));
    const std::string container = container_of(box.pid())["id"];
    const Said made = ctl({"forward", container, "5432:15432", "--reverse"});
    ASSERT_EQ(made.status, 0) << made.err;
  }
  bool wait_for_state(const std::string& state) {
    return until([&] { return forward_of(5432)["state"] == state; });
  }
  /// Connects from inside; the box echoes what it receives. @return errno or 0
  static int connect_inside(const Box& box, const Endpoint& to) {
    return box.tell(
        [](BoxInside& inside, const BoxArgument& a) {
          UniqueFd fd(
              ::socket(address_family(a.at.address.family()), SOCK_STREAM | SOCK_CLOEXEC, 0));
          const SockAddr address = to_sockaddr(a.at);
          if (::connect(fd.get(), address.get(), address.length) != 0) return errno;
          inside.clients.push_back(std::move(fd));
          return 0;
        },
        {to});
  }
};

TEST_F(SystemReverse, BothLoopbacksInsideLeadToTheHostsService) {
  const UniqueFd service = listen_at({kV4, 15432});
  start();
  const Box box;
  forward(box);
  ASSERT_TRUE(wait_for_added(5432));
  for (const Endpoint& inside : {kInside4, kInside6}) {
    ASSERT_EQ(connect_inside(box, inside), 0);
    const UniqueFd served = accept_from(service);
    EXPECT_TRUE(echoes(served, "ping"));
  }
  const Json shown = forward_of(5432);
  EXPECT_EQ(shown["direction"], "reverse");
  EXPECT_EQ(shown["origin"], "manual");
  EXPECT_EQ(shown["state"], "active");
  EXPECT_EQ(shown["container_address"], "127.0.0.1");
  EXPECT_EQ(shown["host_port"], 15432);
  EXPECT_EQ(shown["url"], "");
  EXPECT_EQ(shown["connections"]["total"], 2);
  EXPECT_TRUE(until([&] { return forward_of(5432)["bytes"] == Json({{"in", 10}, {"out", 10}}); }));
  EXPECT_NE(ctl({"list"}).out.find("localhost:15432 <-"), std::string::npos) << ctl({"list"}).out;
}

/// A port that the daemon opens inside is not a listener of the container, also if there are
/// others.
TEST_F(SystemReverse, ItIsNeverForwardedBack) {
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  forward(box);
  ASSERT_TRUE(wait_for_added(5432));
  ASSERT_EQ(box.open(8081), 0);
  ASSERT_TRUE(wait_for_added(8081));
  EXPECT_EQ(json({"list"}).size(), 3U);
  EXPECT_EQ(container_of(box.pid())["listeners"].size(), 2U);
  EXPECT_TRUE(refused({kV4, 5432}));
  EXPECT_EQ(told("PortAdded", 5432).size(), 1U);
}

TEST_F(SystemReverse, APortThatIsTakenInsideIsAConflictUntilItIsFree) {
  start();
  const Box box;
  ASSERT_EQ(box.open(5432), 0);
  ASSERT_TRUE(wait_for_added(5432));
  ASSERT_EQ(ctl({"unforward", "5432"}).status, 0);
  forward(box);
  ASSERT_TRUE(wait_for_state("conflict"));
  EXPECT_EQ(forward_of(5432)["reason"], "port 5432 is taken inside by server");
  EXPECT_EQ(lines_with("port 5432 is taken inside by server"), 1);
  box.close(5432);
  EXPECT_TRUE(wait_for_state("active"));
}

TEST_F(SystemReverse, WithoutAServiceOnTheHostTheClientIsReset) {
  start();
  const Box box;
  forward(box);
  ASSERT_TRUE(wait_for_added(5432));
  ASSERT_EQ(connect_inside(box, kInside4), 0);
  EXPECT_TRUE(until([&] { return forward_of(5432)["connections"]["failed"] == 1; }));
}

TEST_F(SystemReverse, ReopensInTheNextContainerOfTheName) {
  const UniqueFd service = listen_at({kV4, 15432});
  start();
  ASSERT_EQ(ctl({"forward", "shop", "5432:15432", "--reverse"}).status, 1) << "it is not there";
  ASSERT_EQ(ctl({"forward", "shop", "5432:15432", "--reverse", "--allow-missing"}).status, 0);
  EXPECT_EQ(forward_of(5432)["state"], "waiting");
  const std::string reason = forward_of(5432)["reason"].get<std::string>();
  EXPECT_NE(reason.find("container"), std::string::npos) << reason;
  for (std::size_t time = 1; time <= 2; ++time) {
    Box box;
    ASSERT_EQ(ctl({"attach", "--pid", std::to_string(box.pid()), "--name", "shop"}).status, 0);
    ASSERT_TRUE(wait_for_added(5432, time));
    EXPECT_EQ(connect_inside(box, kInside4), 0);
    const UniqueFd served = accept_from(service);
    EXPECT_TRUE(echoes(served, "ping"));
    box.end();
    ASSERT_TRUE(wait_for_removed(5432, time));
    EXPECT_EQ(told("PortRemoved", 5432).back().body[1]["Reason"], "container-gone");
    EXPECT_EQ(forward_of(5432)["state"], "waiting");
    EXPECT_EQ(forward_of(5432)["connections"]["total"], time);
    EXPECT_EQ(forward_of(5432)["connections"]["active"], 0);
  }
}

TEST_F(SystemReverse, ExplainsAForwardWhoseContainerIsAway) {
  configure(
      "[[forward]]\ncontainer = \"db\"\ntarget = \"3306\"\nhost_port = 13306\n"
      "direction = \"reverse\"\n");
  start();
  ASSERT_EQ(ctl({"forward", "shop", "5432:15432", "--reverse", "--allow-missing"}).status, 0);
  for (const auto& question : {std::vector<std::string>{"explain", "shop", "5432"},
                               std::vector<std::string>{"explain", "5432"}}) {
    const Json why = json(question);
    EXPECT_EQ(
        why["summary"],
        "port 5432 of shop is waiting: it leads to 127.0.0.1 and ::1, port 15432: its container "
        "does not exist");
    EXPECT_EQ(why["decision"], "a manual request");
    EXPECT_EQ(why["remedy"],
              "start container shop, or end the forward with `portfwdctl unforward r2`");
  }
  const Json declared = json({"explain", "db", "3306"});
  EXPECT_EQ(declared["decision"], "declared at " + file("portfwd/config.toml") + ":1");
}

TEST_F(SystemReverse, ReportsBothForwardsOfAnAmbiguousHostPort) {
  start();
  ASSERT_EQ(ctl({"forward", "shop", "5432:16432", "--reverse", "--allow-missing"}).status, 0);
  const Said in = ctl({"forward", "shop", "5433:16432", "--allow-missing"});
  ASSERT_EQ(in.status, 0) << in.err;
  const std::string forth = forward_of(5433)["id"];
  const std::string back = forward_of(5432)["id"];
  const Said said = ctl({"unforward", "16432"});
  EXPECT_EQ(said.status, 1);
  EXPECT_EQ(said.err, "portfwdctl: '16432' is ambiguous; use one of: " + forth +
                          " (localhost:16432 -> shop:5433), " + back +
                          " (localhost:16432 <- shop:5432)\n");
  EXPECT_EQ(json({"list"}).size(), 2U) << "and ended none";
}

TEST_F(SystemReverse, FreesThePortInsideWhenItEnds) {
  start();
  const Box box;
  forward(box);
  ASSERT_TRUE(wait_for_added(5432));
  const std::string container = container_of(box.pid())["id"];
  const Said again = ctl({"forward", container, "5432:1", "--reverse"});
  EXPECT_EQ(again.status, 1);
  EXPECT_NE(again.err.find("unforward r1"), std::string::npos) << again.err;
  ASSERT_EQ(ctl({"unforward", "r1"}).status, 0);
  ASSERT_TRUE(wait_for_removed(5432));
  EXPECT_EQ(connect_inside(box, kInside4), ECONNREFUSED);
  ASSERT_EQ(box.open(5432), 0);
  EXPECT_TRUE(wait_for_added(5432, 2)) << "and now it is an ordinary one";
  EXPECT_EQ(forward_of(5432)["direction"], "in");
}

TEST_F(SystemReverse, TheConfigurationMayDeclareOne) {
  const std::string declared =
      "[[forward]]\ncontainer = \"shop\"\ntarget = \"5432\"\nhost_port = 25432\n"
      "direction = \"reverse\"\n";
  configure(declared);
  const UniqueFd service = listen_at({kV4, 25432});
  start();
  EXPECT_EQ(forward_of(5432)["state"], "waiting");
  EXPECT_EQ(forward_of(5432)["origin"], "declared");
  const Box box;
  ASSERT_EQ(ctl({"attach", "--pid", std::to_string(box.pid()), "--name", "shop"}).status, 0);
  ASSERT_TRUE(wait_for_added(5432));
  ASSERT_EQ(connect_inside(box, kInside4), 0);
  const UniqueFd served = accept_from(service);
  ASSERT_TRUE(echoes(served, "ping"));
  configure(declared + "[host]\nhold = \"1s\"\n");
  ASSERT_EQ(ctl({"reload"}).status, 0);
  EXPECT_TRUE(echoes(served, "the connection of one that stays goes on"));
  configure("");
  ASSERT_EQ(ctl({"reload"}).status, 0);
  ASSERT_TRUE(wait_for_removed(5432));
  EXPECT_EQ(told("PortRemoved", 5432)[0].body[1]["Reason"], "rule");
  EXPECT_EQ(forward_of(5432), nullptr);
  EXPECT_EQ(connect_inside(box, kInside4), ECONNREFUSED);
}

TEST_F(SystemReverse, RejectsAddressesInARequest) {
  start();
  const Said said = ctl({"forward", "shop", "5432", "--reverse", "--bind", "::1"});
  EXPECT_EQ(said.status, 1);
  EXPECT_NE(said.err.find("leave out the addresses"), std::string::npos) << said.err;
}

}  // namespace
}  // namespace portfwd
