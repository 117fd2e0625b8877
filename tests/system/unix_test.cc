// Unix sockets of containers, from the listener to what the user reads about it.
#include <gmock/gmock.h>

#include "support/system_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;
using testing::HasSubstr;

class SystemUnix : public SystemTest {
 protected:
  /// The listener with this path; null if there is none.
  Json listener(pid_t container, const std::string& path) {
    const Json found = container_of(container);
    if (found.is_null()) return nullptr;
    for (const Json& one : found["listeners"]) {
      if (one["path"] == path) return one;
    }
    return nullptr;
  }
  bool wait_for_listener(pid_t container, const std::string& path) {
    return until([&] { return !listener(container, path).is_null(); });
  }
};

TEST_F(SystemUnix, AUnixListenerIsListedAndExplainedAndNotForwarded) {
  start();
  const Box box;
  ASSERT_EQ(box.open_unix(file("app.sock")), 0);
  ASSERT_EQ(box.open_unix("@app", SOCK_SEQPACKET), 0);
  ASSERT_TRUE(wait_for_listener(box.pid(), file("app.sock")));
  const Json path = listener(box.pid(), file("app.sock"));
  EXPECT_EQ(path["protocol"], "unix");
  EXPECT_EQ(path["type"], "stream");
  EXPECT_EQ(path["process"], "server");
  EXPECT_EQ(path["backlog"], 5);
  EXPECT_EQ(path["uid"], 0);
  EXPECT_EQ(path["port"], 0);
  EXPECT_EQ(path["address"], "");
  ASSERT_TRUE(wait_for_listener(box.pid(), "@app"));
  EXPECT_EQ(listener(box.pid(), "@app")["type"], "seqpacket");
  const std::string id = container_of(box.pid())["id"];
  const Json explained = json({"explain", id, "unix:" + file("app.sock")});
  EXPECT_EQ(explained["forwarded"], false);
  EXPECT_EQ(explained["protocol"], "unix");
  EXPECT_EQ(explained["target"], "unix:" + file("app.sock"));
  EXPECT_THAT(explained["seen"][0].get<std::string>(),
              HasSubstr("stream, uid 0 inside, backlog 5"));
  EXPECT_EQ(explained["remedies"][0]["code"], "include-socket");
  EXPECT_EQ(json({"explain", "unix:@app"})["remedies"][0]["arguments"][0], "@app");
  const Said table = ctl({"containers"});
  EXPECT_THAT(table.out, HasSubstr("unix:@app"));
  EXPECT_EQ(json({"list"}).size(), 0U);
  box.close_unix();
  EXPECT_TRUE(until([&] { return container_of(box.pid())["listeners"].empty(); }));
  EXPECT_THAT(json({"explain", id, "unix:@app"})["seen"][0].get<std::string>(),
              HasSubstr("nothing listens"));
}

TEST_F(SystemUnix, APatternOfTheConfigurationDecides) {
  configure(
      "[unix]\ninclude = [\"/*/*/app.sock\"]\n[[rule]]\nunix = [\"@*\"]\n"
      "on_auto_forward = \"ignore\"\n");
  start();
  const Box box;
  ASSERT_EQ(box.open_unix(file("app.sock")), 0);
  ASSERT_EQ(box.open_unix(file("other.sock")), 0);
  ASSERT_EQ(box.open_unix("@app"), 0);
  for (const std::string& name : {file("app.sock"), file("other.sock"), std::string("@app")}) {
    ASSERT_TRUE(wait_for_listener(box.pid(), name)) << name;
  }
  const auto decision = [&](const std::string& name) {
    return json({"explain", "unix:" + name})["decision"].get<std::string>();
  };
  EXPECT_THAT(decision(file("other.sock")), HasSubstr("[unix] include does not name"));
  EXPECT_THAT(decision("@app"), HasSubstr("on_auto_forward"));
  EXPECT_THAT(json({"status"})["unix_diag"].get<std::string>(), HasSubstr("yes"));
}

TEST_F(SystemUnix, ANameThatCannotBeTypedIsExplainedByWhatIsDisplayed) {
  start();
  const Box box;
  ASSERT_EQ(box.open_unix("@a\xff\x01z"), 0);
  ASSERT_TRUE(wait_for_listener(box.pid(), "@a??z"));
  const Json explained = json({"explain", "unix:@a??z"});
  EXPECT_THAT(explained["seen"][0].get<std::string>(), HasSubstr("server listens on @a??z"));
}

TEST_F(SystemUnix, FiveHundredOddNamesAreListedAndNothingIsForwarded) {
  start();
  const Box box;
  const std::array<std::string, 6> kinds{"\n", "\x1b[31m", "\xff\xfe", "\"'`$(x)", " ", "%s{}"};
  for (int i = 0; i < 500; ++i) {
    std::string name = "@" + kinds[static_cast<std::size_t>(i) % kinds.size()] + std::to_string(i);
    if (i % 2 == 0) name.resize(kLongestUnixName + 1, 'x');
    ASSERT_EQ(box.open_unix(name), 0) << i;
  }
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  EXPECT_TRUE(until([&] { return container_of(box.pid())["listeners"].size() == 501; }));
  EXPECT_EQ(json({"list"}).size(), 1U);
  EXPECT_EQ(ctl({"containers"}).status, 0);
}

}  // namespace
}  // namespace portfwd
