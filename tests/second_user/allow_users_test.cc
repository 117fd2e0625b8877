// `allow_users` from end to end: the daemon runs as an ordinary user, a rule permits the clients of
// alice, and those of mallory are reset, at any host address.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "build_paths.h"
#include "support/box.h"
#include "support/private_bus.h"
#include "support/program.h"
#include "support/user_process.h"

namespace portfwd {
namespace {

using namespace testing_support;
using namespace std::chrono_literals;
using Json = nlohmann::json;

/// A uid for this process alone: a daemon sees all containers of its user, also those of tests that
/// run at the same time.
const uid_t kOwner = 1'500'000'000U + static_cast<uid_t>(::getpid());
constexpr uid_t kAlice = 61002;
constexpr uid_t kMallory = 61003;

/// Adds alice to /etc/passwd, and the owner, since D-Bus refuses users who are not in it. Applies
/// to this process and its children.
class PasswdWithAlice {
 public:
  explicit PasswdWithAlice(const std::string& folder) {
    const std::string path = folder + "/passwd";
    std::ofstream passwd(path);
    passwd << std::ifstream("/etc/passwd").rdbuf();
    for (const auto& [name, uid] : {std::pair("owner", kOwner), {"alice", kAlice}}) {
      passwd << name << ":x:" << uid << ":" << uid << "::/nonexistent:/bin/sh\n";
    }
    passwd.close();
    EXPECT_EQ(::unshare(CLONE_NEWNS), 0);
    EXPECT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    EXPECT_EQ(::mount(path.c_str(), "/etc/passwd", nullptr, MS_BIND, nullptr), 0);
  }
  PasswdWithAlice(const PasswdWithAlice&) = delete;
  PasswdWithAlice& operator=(const PasswdWithAlice&) = delete;
  ~PasswdWithAlice() { EXPECT_EQ(::umount2("/etc/passwd", MNT_DETACH), 0); }
};

struct Allocation {
  const char* name;
  const char* toml;
  const char* address;  ///< prefix of the host addresses
};

class AllowUsers : public testing::TestWithParam<Allocation> {
 protected:
  AllowUsers() {
    namespace fs = std::filesystem;
    for (const std::string& each : {folder_.path(), bus_.folder()}) {
      fs::permissions(each, fs::perms(0755));
      EXPECT_EQ(::chown(each.c_str(), kOwner, kOwner), 0);
    }
    ::setenv("DBUS_SESSION_BUS_ADDRESS", bus_.address().c_str(), 1);
    ::setenv("HOME", folder_.path().c_str(), 1);
    for (const char* other : {"NOTIFY_SOCKET", "JOURNAL_STREAM", "XDG_CONFIG_HOME",
                              "XDG_STATE_HOME", "XDG_RUNTIME_DIR"}) {
      ::unsetenv(other);
    }
    std::ofstream(config()) << GetParam().toml << "[[rule]]\nports = [8080]\n"
                            << "allow_users = [\"alice\"]\n";
    daemon_.emplace(
        loop_, std::vector<std::string>{"setpriv", "--reuid", std::to_string(kOwner), "--regid",
                                        std::to_string(kOwner), "--clear-groups", PORTFWD_PATH,
                                        "--config", config()});
  }
  ~AllowUsers() override {
    if (daemon_ && HasFailure()) std::fprintf(stderr, "%s", daemon_->err().c_str());
  }

  [[nodiscard]] std::string config() const { return folder_.path() + "/rules.toml"; }

  bool until(const std::function<bool()>& done) {
    const TimePoint deadline = loop_.now() + 20s;
    while (!done() && loop_.now() < deadline) EXPECT_TRUE(loop_.turn(100ms));
    return done();
  }
  Json json(std::vector<std::string> command) {
    command.insert(command.begin(), {PORTFWDCTL_PATH, "--json"});
    Program program(loop_, std::move(command));
    EXPECT_TRUE(until([&] { return program.ended(); }));
    return Json::parse(program.out(), nullptr, false);
  }
  Json forward_of(Port port) {
    const Json all = json({"list"});
    const auto found = std::ranges::find_if(
        all, [port](const Json& forward) { return forward["container_port"] == port; });
    return found == all.end() ? Json() : *found;
  }
  /// Opens a port in the container. @return the host endpoint of its forward, once there is one
  Endpoint open(Port port) {
    EXPECT_EQ(box_.open(port), 0);
    EXPECT_TRUE(until([&] {
      return daemon_->err().find(" port " + std::to_string(port) + " is at") != std::string::npos;
    }));
    const Json forward = forward_of(port);
    const auto address = IpAddress::parse(forward["host_address"].get<std::string>());
    EXPECT_TRUE(address);
    return {address.value_or(IpAddress()), forward["host_port"].get<Port>()};
  }
  [[nodiscard]] int lines_with(const std::string& words) const {
    int count = 0;
    for (auto at = daemon_->err().find(words); at != std::string::npos;
         at = daemon_->err().find(words, at + 1)) {
      ++count;
    }
    return count;
  }
  static bool is_let_in(UserProcess& client, const Endpoint& at) {
    EXPECT_EQ(client.connect(at), 0);
    return client.read_some() == 0;
  }
  /// The reset may arrive before connect() returns.
  static bool is_reset(UserProcess& client, const Endpoint& at) {
    const int outcome = client.connect(at);
    return (outcome == 0 ? client.read_to_end() : outcome) == ECONNRESET;
  }

  TempDir folder_;
  PasswdWithAlice passwd_{folder_.path()};
  PrivateBus bus_;
  SystemClock clock_;
  EventLoop loop_{clock_};
  Box box_ = Box::of_user(kOwner);
  std::optional<Program> daemon_;
};

INSTANTIATE_TEST_SUITE_P(At, AllowUsers,
                         testing::Values(Allocation{"OnePortForAll", "", "127.0.0.1"},
                                         Allocation{"AnAddressPerContainer",
                                                    "[host]\nallocation = \"per-container\"\n",
                                                    "127."}),
                         [](const auto& which) { return which.param.name; });

TEST_P(AllowUsers, AcceptsOnlyTheUsersThatTheRuleNames) {
  const Endpoint named = open(8080);
  const Endpoint other = open(8081);
  EXPECT_TRUE(named.address.text().starts_with(GetParam().address)) << named.text();
  UserProcess owner(kOwner);
  UserProcess alice(kAlice);
  UserProcess mallory(kMallory);
  EXPECT_TRUE(is_let_in(owner, named));
  EXPECT_TRUE(is_let_in(alice, named));
  EXPECT_TRUE(is_reset(mallory, named));
  EXPECT_TRUE(is_let_in(owner, other));
  EXPECT_TRUE(is_reset(alice, other)) << "the rule is about the other port";

  EXPECT_EQ(forward_of(8080)["connections"]["total"], 2);
  EXPECT_EQ(forward_of(8080)["connections"]["refused"], 1);
  EXPECT_EQ(forward_of(8081)["connections"]["total"], 1);
  EXPECT_EQ(forward_of(8081)["connections"]["refused"], 1);
}

TEST_P(AllowUsers, CountsAndLogsRefusedClientsOnceASecondWithTheRemedy) {
  const Endpoint named = open(8080);
  const TimePoint began = loop_.now();
  for (int i = 0; i < 20; ++i) {
    UserProcess mallory(kMallory);
    EXPECT_TRUE(is_reset(mallory, named));
  }
  UserProcess gone(kMallory);
  (void)gone.connect(named);
  (void)gone.send();
  EXPECT_EQ(gone.close(), 0);
  EXPECT_TRUE(until([&] { return forward_of(8080)["connections"]["refused"] == 21; }));
  const Json status = json({"status"});
  EXPECT_EQ(status["clients_refused_foreign"].get<int>() +
                status["clients_refused_unidentified"].get<int>(),
            21)
      << "whether one that closed was still there is a matter of chance";
  EXPECT_GE(status["clients_refused_foreign"], 20);

  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(loop_.now() - began);
  EXPECT_GE(lines_with("refused a client of user 61003"), 1);
  EXPECT_LE(lines_with("refused a client"), 2 + seconds.count()) << daemon_->err();
  EXPECT_GE(lines_with("name it in allow_users"), 1);
}

}  // namespace
}  // namespace portfwd
