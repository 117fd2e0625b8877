// The client library with the daemon's D-Bus service on a real bus. Its calls block, so it runs in
// a thread of its own while the daemon's loop turns.
#include "client/client.h"

#include <gtest/gtest.h>

#include <future>
#include <memory>

#include "client/subscription.h"
#include "support/bus_client.h"
#include "support/served_bus.h"

namespace portfwd::client {
namespace {

using namespace testing_support;
using namespace std::chrono_literals;

class ClientTest : public ServedBusTest {
 protected:
  template <class Calls>
  auto in_client(Calls calls) {
    auto result = std::async(std::launch::async, std::move(calls));
    EXPECT_TRUE(
        turn_until(loop_, [&] { return result.wait_for(0s) == std::future_status::ready; }));
    return result.get();
  }
  std::optional<Error> error_of(const std::function<void(Client&)>& call) {
    return in_client([&]() -> std::optional<Error> {
      try {
        call(client_);
      } catch (const Error& error) {
        return error;
      }
      return {};
    });
  }

  void subscribe(Subscription::Wanted wanted) {
    subscription_ = in_client([&] { return std::make_unique<Subscription>(client_, wanted); });
  }
  Notification next() {
    auto next = in_client([&] { return subscription_->next(10s); });
    EXPECT_TRUE(next) << "nothing came";
    return next.value_or(DaemonLost());
  }
  template <class Expected>
  Expected next_is() {
    const Notification notification = next();
    EXPECT_TRUE(std::holds_alternative<Expected>(notification)) << notification.index();
    const auto* expected = std::get_if<Expected>(&notification);
    return expected ? *expected : Expected{};
  }
  bool nothing_comes() {
    return in_client([&] { return !subscription_->next(50ms); });
  }

  Client client_;
  std::unique_ptr<Subscription> subscription_;
};

TEST_F(ClientTest, ListsForwardsAsValuesByContainerAndPort) {
  ForwardInfo other = web_forward("f-2");
  other.container_name = "db";
  control_.all_forwards = {web_forward(), other};
  serve();
  const auto found = in_client([&] { return client_.forwards(); });
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].container_name, "db");
  const Forward& web = found[1];
  EXPECT_EQ(web.path, "/org/portfwd1/forward/f_2d1");
  EXPECT_EQ(web.id, "f-1");
  EXPECT_EQ(web.protocol, "tcp");
  EXPECT_EQ(web.host_addresses, (std::vector<std::string>{"127.0.0.1", "::1"}));
  EXPECT_EQ(web.host_port, 8080);
  EXPECT_EQ(web.state, "active");
  EXPECT_EQ(web.since, web_forward().since);
  EXPECT_EQ(web.connections_refused, 3U);
  EXPECT_EQ(web.bytes_out, 456U);
}

TEST_F(ClientTest, ReadsTheCountersOfAllForwardsByPath) {
  control_.all_forwards = {web_forward()};
  serve();
  control_.all_forwards[0].counters = {.active = 1, .total = 2, .bytes_out = 7};
  const auto found = in_client([&] { return client_.counters(); });
  ASSERT_EQ(found.size(), 1U);
  const client::Counters& web = found.at("/org/portfwd1/forward/f_2d1");
  EXPECT_EQ(web.active, 1U);
  EXPECT_EQ(web.total, 2U);
  EXPECT_EQ(web.bytes_out, 7U);
}

TEST_F(ClientTest, ListsContainersWithListenersAndPublishedPorts) {
  control_.all_containers = {web_container()};
  serve();
  const auto found = in_client([&] { return client_.containers(); });
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].uid, 1000U);
  EXPECT_EQ(found[0].labels.at("project"), "shop");
  EXPECT_TRUE(found[0].ever_listened);
  ASSERT_EQ(found[0].listeners.size(), 1U);
  EXPECT_EQ(found[0].listeners[0].port, 8080);
  EXPECT_EQ(found[0].listeners[0].process, "nginx");
  ASSERT_EQ(found[0].published.size(), 1U);
  EXPECT_EQ(found[0].published[0].host_port, 8081);
}

TEST_F(ClientTest, AddsAForwardAndReturnsItAlone) {
  control_.all_forwards = {web_forward()};
  serve();
  const auto made = in_client(
      [&] { return client_.add_forward({.container = "web", .target = "8080", .host_port = 99}); });
  ASSERT_TRUE(made);
  EXPECT_EQ(made->id, "made");
  EXPECT_EQ(made->host_port, 99);
  EXPECT_EQ(made->origin, "manual");
  in_client([&] { client_.remove_forward(made->path); });
  EXPECT_EQ(control_.all_forwards.size(), 1U);
}

TEST_F(ClientTest, ReturnsTypedStatusAndExplanationWithAllFacts) {
  serve();
  const auto status = in_client([&] { return client_.status(); });
  EXPECT_EQ(status.instance_id, "instance");
  EXPECT_EQ(std::get<double>(status.facts.at("poll_cost")), 0.25);
  const auto explanation = in_client([&] { return client_.explain("web", "8080"); });
  EXPECT_TRUE(explanation.forwarded);
  EXPECT_EQ(explanation.summary, "8080 is forwarded");
  EXPECT_EQ(std::get<std::vector<std::string>>(explanation.facts.at("seen")).size(), 2U);
  EXPECT_EQ(explanation.remedy, "end forward f-1");
  ASSERT_EQ(explanation.remedies.size(), 1U);
  EXPECT_EQ(explanation.remedies[0].name, "end-forward");
  EXPECT_EQ(explanation.remedies[0].code, RemedyCode::EndForward);
  EXPECT_EQ(explanation.remedies[0].arguments, std::vector<std::string>{"f-1"});
}

TEST_F(ClientTest, ReportsARefusalWithItsName) {
  serve();
  control_.refusal = {Refusal::Kind::PortInUse, "it is held"};
  const auto error = error_of([](Client& client) { client.add_forward({"web", "80"}); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind(), Error::Kind::Refused);
  EXPECT_EQ(error->name(), "org.portfwd1.Error.PortInUse");
  EXPECT_STREQ(error->what(), "it is held");
}

TEST_F(ClientTest, ReportsThatNoDaemonAnswersAndThatThereIsNoBus) {
  const auto no_daemon = error_of([](Client& client) { client.reload(); });
  ASSERT_TRUE(no_daemon);
  EXPECT_EQ(no_daemon->kind(), Error::Kind::NoAnswer);
  bus_.end();
  const auto no_bus = error_of([](Client&) { Client().reload(); });
  ASSERT_TRUE(no_bus);
  EXPECT_EQ(no_bus->kind(), Error::Kind::NoBus);
}

TEST_F(ClientTest, RejectsTextThatIsNotUtf8) {
  serve();
  const auto error = error_of([](Client& client) { client.attach_pid(1, "w\xff"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind(), Error::Kind::NotUtf8);
}

TEST_F(ClientTest, DeliversPastAndNewEventsOnceAndInOrder) {
  serve();
  control_.add(web_container());
  control_.add(web_forward());
  subscribe({.events_after = 1});
  control_.remove_forward("f-1", "rule");
  const Event added = next_is<Event>();
  EXPECT_EQ(added.seq, 2U);
  EXPECT_EQ(added.type, "PortAdded");
  ASSERT_TRUE(std::holds_alternative<Forward>(added.subject));
  EXPECT_EQ(std::get<Forward>(added.subject).host_port, 8080);
  const Event removed = next_is<Event>();
  EXPECT_EQ(removed.seq, 3U);
  EXPECT_EQ(removed.reason, "rule");
  EXPECT_TRUE(nothing_comes());
  control_.remove_container("c_1", "detached");
  EXPECT_EQ(next_is<Event>().seq, 4U);
  service_.reset();
  next_is<DaemonLost>();
}

TEST_F(ClientTest, FetchesAnEventWhoseSignalWasLost) {
  serve();
  subscribe({.events_after = 0});
  portfwd::Event lost;  // only in the event log
  lost.seq = 1;
  lost.type = portfwd::Event::Type::Gap;
  control_.log.push_back(lost);
  control_.add(web_container());
  EXPECT_EQ(next_is<Event>().type, "Gap");
  EXPECT_EQ(next_is<Event>().type, "ContainerAdded");
  EXPECT_TRUE(nothing_comes());
}

TEST_F(ClientTest, DeliversTheObjectsThenTheirChanges) {
  control_.all_forwards = {web_forward()};
  serve();
  subscribe({.objects = true});
  EXPECT_EQ(next_is<Updated<Forward>>().object.id, "f-1");
  control_.add(web_container());
  EXPECT_EQ(next_is<Updated<Container>>().object.name, "web");
  ForwardInfo changed = web_forward();
  changed.state = ForwardState::Lingering;
  control_.change(changed);
  const Forward forward = next_is<Updated<Forward>>().object;
  EXPECT_EQ(forward.state, "lingering");
  EXPECT_EQ(forward.url, "http://127.0.0.1:8080/") << "what did not change is there as well";
  control_.remove_forward("f-1", "rule");
  EXPECT_EQ(next_is<Removed<Forward>>().object.state, "lingering");
  control_.remove_container("c_1", "detached");
  EXPECT_EQ(next_is<Removed<Container>>().object.id, "c_1");
  EXPECT_TRUE(nothing_comes());
  service_.reset();
  next_is<DaemonLost>();
}

TEST_F(ClientTest, IsLostWithTheBus) {
  serve();
  subscribe({.events_after = 0});
  bus_.end();
  next_is<DaemonLost>();
}

}  // namespace
}  // namespace portfwd::client
