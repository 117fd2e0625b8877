// Forwards of container ports to the host: their events, how they are reached, and how long they
// last.
#include <net/if.h>
#include <sys/ioctl.h>

#include <cstring>
#include <optional>
#include <set>

#include "support/system_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;

class SystemForwards : public SystemTest {};

TEST_F(SystemForwards, ExplainsAPortThatIsNoLongerThere) {
  configure("[host]\nlinger = \"300ms\"\n");
  start();
  std::optional<Box> box(std::in_place);
  ASSERT_EQ(box->open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  const std::string name = forward_of(8080)["container"]["name"];
  const auto expect_told = [&](const std::string& word) {
    for (const auto& question : {std::vector<std::string>{"explain", name, "8080"},
                                 std::vector<std::string>{"explain", "8080"}}) {
      const Json why = json(question);
      EXPECT_EQ(why["forwarded"], false) << why.dump(1);
      EXPECT_EQ(why["container"], name);
      const auto told = why["seen"].back().get<std::string>();
      EXPECT_NE(told.find("port 8080, until 2"), std::string::npos) << told;
      EXPECT_NE(told.find(word), std::string::npos) << told;
    }
  };
  box->close(8080);
  ASSERT_TRUE(wait_for_removed(8080));
  expect_told("its listener closed");
  ASSERT_EQ(box->open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080, 2));
  EXPECT_EQ(json({"explain", "8080"})["forwarded"], true);
  box.reset();
  ASSERT_TRUE(wait_for_removed(8080, 2));
  expect_told("its container ended");
  EXPECT_EQ(ctl({"explain", "8081"}).status, 1) << "never seen";
}

/// Sets the loopback interface inside up, or down if the number is 0.
int set_lo(BoxInside&, const BoxArgument& a) {
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq lo{};
  std::strcpy(lo.ifr_name, "lo");
  lo.ifr_flags = a.number != 0 ? IFF_UP : 0;
  return ::ioctl(fd.get(), SIOCSIFFLAGS, &lo) == 0 ? 0 : errno;
}

TEST_F(SystemForwards, AnnouncesAPortAndServesItOnBothLoopbacks) {
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  EXPECT_EQ(greeting({kV4, 8080}), "8080 here\n");
  EXPECT_EQ(greeting({kV6, 8080}), "8080 here\n");

  const Json told_properties = told("PortAdded", 8080)[0].body[1];
  const Json container = container_of(box.pid());
  EXPECT_EQ(told_properties["ContainerName"], container["name"]);
  EXPECT_EQ(told_properties["Protocol"], "tcp");
  EXPECT_EQ(told_properties["HostAddress"], "127.0.0.1");
  EXPECT_EQ(told_properties["HostPort"], 8080);
  EXPECT_EQ(told_properties["Label"], "");
  EXPECT_EQ(told_properties["Process"], "server");
  EXPECT_EQ(told_properties["Url"], "http://127.0.0.1:8080/");
  EXPECT_EQ(told_properties["OnAutoForward"], "notify");
  EXPECT_EQ(told_properties["BatchSize"], 1);
  EXPECT_EQ(told_properties["BatchIndex"], 0);
  EXPECT_GT(told_properties["Sequence"], 0);
  const Json forward = forward_of(8080);
  EXPECT_EQ(forward["state"], "active");
  EXPECT_EQ(forward["origin"], "auto");
  EXPECT_EQ(forward["reason"], "");
  EXPECT_EQ(forward["host_addresses"], Json({"127.0.0.1", "::1"}));
  EXPECT_EQ(forward["connections"]["total"], 2);
}

TEST_F(SystemForwards, PortsThatWereOpenBeforeTheStartCount) {
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  start();
  ASSERT_TRUE(wait_for_added(8080));
  EXPECT_EQ(greeting({kV4, 8080}), "8080 here\n");
}

TEST_F(SystemForwards, AnnouncesThePortsOfOnePollAsOneBatch) {
  const Box box;
  for (const Port port : std::array<Port, 3>{8080, 8081, 8082}) ASSERT_EQ(box.open(port), 0);
  start();
  ASSERT_TRUE(wait_for_added(8082));
  for (const Port port : std::array<Port, 3>{8080, 8081, 8082}) {
    const Json one = told("PortAdded", port)[0].body[1];
    EXPECT_EQ(one["BatchSize"], 3);
    EXPECT_EQ(one["BatchIndex"], port - 8080);
  }
}

TEST_F(SystemForwards, APortThatClosesLingersAndIsThenRemoved) {
  configure("[host]\nlinger = \"300ms\"\n");
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  box.close(8080);
  ASSERT_TRUE(wait_for_removed(8080));
  EXPECT_EQ(told("PortRemoved", 8080)[0].body[1]["Reason"], "listener-closed");
  EXPECT_TRUE(refused({kV4, 8080}));
  EXPECT_TRUE(refused({kV6, 8080}));
  EXPECT_EQ(forward_of(8080), nullptr);
}

TEST_F(SystemForwards, HoldsClientsWhileAServerRestarts) {
  configure("[host]\nlinger = \"10s\"\nhold = \"10s\"\n");
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  const std::string id = forward_of(8080)["id"];
  box.close(8080);
  ASSERT_TRUE(until([&] { return forward_of(8080)["state"] == "lingering"; }));

  const UniqueFd waiting = connect_to_port({kV4, 8080});
  ASSERT_EQ(box.open(8080), 0);
  EXPECT_EQ(read_line(waiting), "8080 here\n");
  EXPECT_EQ(forward_of(8080)["id"], id);
  EXPECT_EQ(forward_of(8080)["state"], "active");
  EXPECT_EQ(told("PortAdded", 8080).size(), 1U);
  EXPECT_TRUE(told("PortRemoved", 8080).empty());
}

struct Listening {
  const char* name;
  const char* address;
  bool v6only;
};

class SystemAddresses : public SystemTest, public testing::WithParamInterface<Listening> {};

/// Both loopback addresses of the host lead to the listener, at whatever address it is bound.
TEST_P(SystemAddresses, IsReachedFromBothLoopbacks) {
  start();
  const Box box;
  const auto address = *IpAddress::parse(GetParam().address);
  if (!address.is_loopback() && !address.is_any()) {
    ASSERT_EQ(box.add_address(address), 0);
  }
  ASSERT_EQ(box.open({address, 8080}, GetParam().v6only), 0);
  ASSERT_TRUE(wait_for_added(8080));
  EXPECT_EQ(greeting({kV4, 8080}), "8080 here\n");
  EXPECT_EQ(greeting({kV6, 8080}), "8080 here\n");
  EXPECT_EQ(forward_of(8080)["container_address"], GetParam().address);
  EXPECT_EQ(container_of(box.pid())["listeners"][0]["address"], GetParam().address);
}
INSTANTIATE_TEST_SUITE_P(Bound, SystemAddresses,
                         testing::Values(Listening{"ToEverythingOfIpv4", "0.0.0.0", false},
                                         Listening{"ToEverything", "::", false},
                                         Listening{"ToEverythingOfIpv6", "::", true},
                                         Listening{"ToIpv4Loopback", "127.0.0.1", false},
                                         Listening{"ToIpv6Loopback", "::1", false},
                                         Listening{"ToAnotherLoopbackAddress", "127.0.0.53", false},
                                         Listening{"ToOneOrdinaryAddress", "10.9.8.7", false}),
                         [](const auto& which) { return which.param.name; });

TEST_F(SystemForwards, TheListenerNearestToLoopbackInTheClientsFamilyIsDialled) {
  start();
  const Box v4;
  ASSERT_EQ(v4.open({kV4, 8080}), 0);
  const Box v6 = Box::beside(v4);
  ASSERT_EQ(v6.tell([](BoxInside& inside, const BoxArgument&) {
    // Another server on the same port, in the other family.
    UniqueFd fd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const SockAddr address = to_sockaddr({IpAddress::loopback(Family::V6), 8080});
    if (::bind(fd.get(), address.get(), address.length) != 0 || ::listen(fd.get(), 8) != 0)
      return errno;
    inside.listeners.push_back({{IpAddress::loopback(Family::V6), 6}, std::move(fd)});
    return 0;
  }),
            0);
  ASSERT_TRUE(until([&] { return container_of(v4.pid())["listeners"].size() == 2; }));
  EXPECT_EQ(greeting({kV4, 8080}), "8080 here\n");
  EXPECT_EQ(greeting({kV6, 8080}), "6 here\n");
  EXPECT_EQ(json({"list"}).size(), 1U);
}

TEST_F(SystemForwards, TwoContainersWithOnePortGetTwoHostPorts) {
  start();
  const Box first;
  ASSERT_EQ(first.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  const Box second;
  ASSERT_EQ(second.open({IpAddress::any(Family::V4), 8080}), 0);
  ASSERT_TRUE(wait_for_added(8080, 2));
  const Json one = forward_of(8080, first.pid());
  const Json two = forward_of(8080, second.pid());
  EXPECT_EQ(one["host_port"], 8080);
  EXPECT_EQ(two["host_port"], 20000);
  const std::string why = two["reason"];
  EXPECT_NE(why.find(one["container"]["name"].get<std::string>()), std::string::npos) << why;
  EXPECT_EQ(greeting({kV4, 20000}), "8080 here\n");
}

TEST_F(SystemForwards, WithAnAddressPerContainerEachKeepsItsPorts) {
  configure("[host]\nallocation = \"per-container\"\n");
  std::ofstream("/proc/sys/net/ipv4/ip_unprivileged_port_start") << 0 << std::flush;
  start();
  const Box first;
  ASSERT_EQ(first.open(80), 0);
  ASSERT_TRUE(wait_for_added(80));
  const Box second;
  ASSERT_EQ(second.open(80), 0);
  ASSERT_TRUE(wait_for_added(80, 2));
  std::ofstream("/proc/sys/net/ipv4/ip_unprivileged_port_start") << 1024 << std::flush;
  std::set<std::string> addresses;
  for (const Box* box : {&first, &second}) {
    const Json forward = forward_of(80, box->pid());
    const std::string address = forward["host_address"];
    addresses.insert(address);
    EXPECT_EQ(forward["host_port"], 80);
    EXPECT_EQ(forward["host_addresses"], Json({address}));
    EXPECT_EQ(forward["url"], "http://" + address + ":80/");
    EXPECT_EQ(greeting({*IpAddress::parse(address), 80}), "80 here\n");
  }
  EXPECT_EQ(addresses.size(), 2U);
}

TEST_F(SystemForwards, ExplainsThatAContainerWasDetached) {
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  const std::string id = container_of(box.pid())["id"];
  const std::string name = container_of(box.pid())["name"];
  ASSERT_EQ(ctl({"detach", id}).status, 0);
  const Json why = json({"explain", name + ":8080"});
  EXPECT_EQ(why["decision"], "its container was detached");
  EXPECT_NE(why["remedy"].dump().find("attach --pid " + std::to_string(box.pid())),
            std::string::npos)
      << why.dump(1);
}

TEST_F(SystemForwards, DistinguishesContainersOfOneName) {
  start();
  const Box one;
  const Box two;
  ASSERT_EQ(one.open(8080), 0);
  ASSERT_EQ(two.open(8080), 0);
  std::vector<std::string> ids;
  for (const Box* box : {&one, &two}) {
    const Json made = json({"attach", "--pid", std::to_string(box->pid()), "--name", "shop"});
    ids.push_back(made["id"]);
  }
  ASSERT_TRUE(until([&] { return json({"list", "--container", "shop"}).size() == 2; }));
  for (const auto& question : {std::vector<std::string>{"explain", "8080"},
                               std::vector<std::string>{"explain", "shop", "8080"}}) {
    const std::string said = ctl(question).err;
    for (const std::string& id : ids) EXPECT_NE(said.find(id), std::string::npos) << said;
    EXPECT_EQ(said.find("more of the id"), std::string::npos) << said;
  }
}

TEST_F(SystemForwards, APrivilegedPortMovesBy8000) {
  start();
  const Box box;
  ASSERT_EQ(box.open(80), 0);
  ASSERT_TRUE(wait_for_added(80));
  const Json forward = forward_of(80);
  EXPECT_EQ(forward["host_port"], 8080);
  EXPECT_EQ(forward["reason"], "port 80 is privileged on the host");
  EXPECT_EQ(greeting({kV6, 8080}), "80 here\n");
  EXPECT_EQ(lines_with("(port 80 is privileged on the host)"), 1);
}

TEST_F(SystemForwards, ATakenPortMovesAndItsHolderIsNamed) {
  const UniqueFd taken = listen_at({kV6, 8080});
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  const Json forward = forward_of(8080);
  EXPECT_EQ(forward["host_port"], 20000);
  EXPECT_EQ(forward["reason"], "port 8080 is held by system_tests");
  EXPECT_EQ(json({"explain", "8080"})["tried"],
            Json::array({"[::1]:8080: port 8080 is held by system_tests"}));
  EXPECT_EQ(greeting({kV4, 20000}), "8080 here\n");
  EXPECT_TRUE(refused({kV4, 8080})) << "both or neither";
}

TEST_F(SystemForwards, StaysInConflictUntilAPortIsFree) {
  configure("[host]\nfallback_range = \"20000-20000\"\n");
  UniqueFd taken = listen_at({kV4, 8080});
  const UniqueFd fallback = listen_at({kV4, 20000});
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(until([&] { return forward_of(8080)["state"] == "conflict"; }));
  EXPECT_EQ(forward_of(8080)["reason"], "port 8080 is held by system_tests");
  EXPECT_TRUE(told("PortAdded", 8080).empty());
  taken.reset();
  ASSERT_TRUE(wait_for_added(8080));
  EXPECT_EQ(greeting({kV4, 8080}), "8080 here\n");
  EXPECT_EQ(forward_of(8080)["reason"], "");
}

TEST_F(SystemForwards, AForwardByHandWaitsAndServesAndMayBeEnded) {
  start();
  const Box box;
  ASSERT_TRUE(wait_for_container(box.pid()));
  const std::string container = container_of(box.pid())["id"];
  const Said made = ctl({"forward", container, "9000:19000", "--label", "mine"});
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_EQ(forward_of(9000)["state"], "waiting");
  const UniqueFd early = connect_to_port({kV6, 19000});
  ASSERT_EQ(box.open(9000), 0);
  EXPECT_EQ(read_line(early), "9000 here\n");
  EXPECT_EQ(forward_of(9000)["state"], "active");
  EXPECT_EQ(forward_of(9000)["label"], "mine");
  EXPECT_EQ(json({"list"}).size(), 1U) << "not a second one by itself";
  box.close(9000);
  EXPECT_TRUE(until([&] { return forward_of(9000)["state"] == "waiting"; }));
  ASSERT_EQ(ctl({"unforward", "19000"}).status, 0);
  ASSERT_TRUE(wait_for_removed(9000));
  EXPECT_EQ(told("PortRemoved", 9000)[0].body[1]["Reason"], "unforwarded");
  EXPECT_TRUE(refused({kV4, 19000}));
}

TEST_F(SystemForwards, KeepsAnEndedForwardAwayUntilItsListenerReturns) {
  configure("[host]\nlinger = \"0s\"\n");
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  ASSERT_EQ(ctl({"unforward", "8080"}).status, 0);
  ASSERT_EQ(box.open(8081), 0);  // announced only after another poll
  ASSERT_TRUE(wait_for_added(8081));
  EXPECT_EQ(forward_of(8080), nullptr);
  box.close(8080);
  ASSERT_TRUE(until([&] { return container_of(box.pid())["listeners"].size() == 1; }));
  ASSERT_EQ(box.open(8080), 0);
  EXPECT_TRUE(wait_for_added(8080, 2));
}

TEST_F(SystemForwards, HoldsThePortOfAForwardWithoutContainer) {
  start();
  ASSERT_EQ(ctl({"forward", "later", "9000", "--allow-missing"}).status, 0);
  EXPECT_EQ(forward_of(9000)["state"], "waiting");
  const UniqueFd early = connect_to_port({kV4, 9000});
  Box box;
  ASSERT_EQ(ctl({"attach", "--pid", std::to_string(box.pid()), "--name", "later"}).status, 0);
  ASSERT_EQ(box.open(9000), 0);
  EXPECT_EQ(read_line(early), "9000 here\n");
  box.end();
  ASSERT_TRUE(until([&] { return forward_of(9000)["state"] == "waiting"; }));
  EXPECT_EQ(forward_of(9000)["container"]["name"], "later");
}

TEST_F(SystemForwards, EndsAForwardWithItsCallersConnection) {
  start();
  const Box box;
  ASSERT_TRUE(wait_for_container(box.pid()));
  auto caller = std::make_unique<BusClient>(loop_, bus_.address());
  const auto id = container_of(box.pid())["id"].get<std::string>();
  const auto made =
      caller->manager("Forward", "ssa{sv}", id.c_str(), "9000", 1, "while_connected", "b", 1);
  ASSERT_EQ(made.error, "") << made.text;
  ASSERT_TRUE(wait_for_added(9000));
  caller.reset();
  EXPECT_TRUE(wait_for_removed(9000));
  EXPECT_TRUE(refused({kV4, 9000}));
}

TEST_F(SystemForwards, ATargetThatCannotBeDialledIsNotShownAsActive) {
  configure("[host]\nconnect_timeout = \"500ms\"\n");
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  ASSERT_EQ(box.tell(set_lo, {.number = 0}), 0);
  EXPECT_EQ(greeting({kV4, 8080}), "");
  const Json forward = forward_of(8080);
  EXPECT_EQ(forward["state"], "waiting");
  EXPECT_NE(forward["reason"].get<std::string>().find("cannot dial"), std::string::npos);
  EXPECT_NE(ctl({"explain", "8080"}).out.find("cannot dial"), std::string::npos);
  EXPECT_NE(json({"explain", "8080"})["remedy"].dump().find("ip link set lo up"),
            std::string::npos);
  ASSERT_EQ(box.tell(set_lo, {.number = 1}), 0);
  EXPECT_EQ(greeting({kV4, 8080}), "8080 here\n");
  EXPECT_EQ(forward_of(8080)["state"], "active");
}

}  // namespace
}  // namespace portfwd
