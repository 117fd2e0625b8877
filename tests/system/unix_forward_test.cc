// Unix sockets from end to end: a socket inside is reached at a path or a port of the host.
#include <sys/stat.h>
#include <sys/un.h>

#include "support/system_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;

class SystemUnixForward : public SystemTest {
 protected:
  /// A socket that is connected to the path; invalid if that fails, see `error`.
  UniqueFd connected_to(const std::string& path, int type = SOCK_STREAM) {
    UniqueFd fd(::socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const auto at = sockaddr_of(UnixPath{path});
    error = ::connect(fd.get(), at->get(), at->length) == 0 ? 0 : errno;
    return error == 0 ? std::move(fd) : UniqueFd();
  }
  std::string greeting_at(const std::string& path) {
    const UniqueFd fd = connected_to(path);
    return fd.valid() ? read_line(fd) : "";
  }
  /// The forward with this id in the last list; null if there is none.
  Json forward_with(const std::string& id) {
    for (const Json& forward : json({"list"})) {
      if (forward["id"] == id) return forward;
    }
    return nullptr;
  }
  bool becomes(const std::string& id, const std::string& state) {
    return until([&] {
      const Json forward = forward_with(id);
      return forward.is_object() && forward["state"] == state;
    });
  }
  /// Makes a program in the box listen at a path, and forwards that. @return the id of the forward
  std::string forwarded(const Box& box, const std::string& inside) {
    EXPECT_EQ(box.open_unix(inside), 0);
    const std::string id = json({"forward", name_of(box), "unix:" + inside})["id"];
    EXPECT_TRUE(becomes(id, "active"));
    return id;
  }
  static mode_t mode_of(const std::string& path) {
    struct stat about {};
    return ::stat(path.c_str(), &about) == 0 ? about.st_mode & 07777 : mode_t{0};
  }
  static bool exists(const std::string& path) {
    struct stat about {};
    return ::lstat(path.c_str(), &about) == 0;
  }
  std::string name_of(const Box& box) {
    EXPECT_TRUE(wait_for_container(box.pid()));
    return container_of(box.pid())["name"];
  }

  int error = 0;
};

TEST_F(SystemUnixForward, ForwardsASocketToAPathThatOnlyTheUserMayUse) {
  start();
  const Box box;
  const std::string inside = file("app.sock");
  const std::string id = forwarded(box, inside);
  const Json forward = forward_with(id);
  EXPECT_EQ(forward["protocol"], "unix");
  EXPECT_EQ(forward["target"], "unix:" + inside);
  EXPECT_EQ(forward["container_path"], inside);
  EXPECT_EQ(forward["socket_type"], "stream");
  EXPECT_EQ(forward["host_port"], 0);
  EXPECT_EQ(forward["url"], "");
  const std::string path = forward["host_path"];
  EXPECT_EQ(path, file("run/portfwd/") + std::string(forward["container"]["name"]) + "/app.sock");
  EXPECT_EQ(mode_of(path), 0600U);
  EXPECT_EQ(mode_of(path.substr(0, path.rfind('/'))), 0700U);
  const UniqueFd client = connected_to(path);
  EXPECT_EQ(read_line(client), "0 here\n");
  EXPECT_TRUE(echoes(client, "through the path"));
  EXPECT_EQ(ctl({"unforward", path}).status, 0);
  EXPECT_TRUE(until([&] { return !exists(path); })) << "the path is left behind";
  EXPECT_TRUE(exists(inside));
}

TEST_F(SystemUnixForward, ForwardsASocketToAPort) {
  start();
  const Box box;
  const std::string inside = file("app.sock");
  ASSERT_EQ(box.open_unix(inside), 0);
  const Json made = json({"forward", name_of(box), "unix:" + inside + ":18431"});
  ASSERT_TRUE(becomes(made["id"], "active"));
  for (const IpAddress& address : {kV4, kV6}) EXPECT_EQ(greeting({address, 18431}), "0 here\n");
  EXPECT_EQ(forward_with(made["id"])["host_path"], "");
}

TEST_F(SystemUnixForward, ForwardsAnAbstractName) {
  start();
  const Box box;
  ASSERT_EQ(box.open_unix("@app"), 0);
  const Json made = json({"forward", name_of(box), "unix:@app"});
  ASSERT_TRUE(becomes(made["id"], "active"));
  EXPECT_EQ(greeting_at(forward_with(made["id"])["host_path"]), "0 here\n");
}

TEST_F(SystemUnixForward, ReachesTheServerAgainAfterItHasRestarted) {
  start();
  const Box box;
  const std::string inside = file("app.sock");
  const std::string id = forwarded(box, inside);
  const std::string path = forward_with(id)["host_path"];
  EXPECT_EQ(greeting_at(path), "0 here\n");
  box.close_unix();
  ASSERT_EQ(::unlink(inside.c_str()), 0);
  ASSERT_TRUE(becomes(id, "waiting"));
  const UniqueFd held = connected_to(path);
  ASSERT_TRUE(held.valid()) << "it waits for the server";
  ASSERT_EQ(box.open_unix(inside), 0);
  EXPECT_EQ(read_line(held), "0 here\n");
}

TEST_F(SystemUnixForward, RefusesClientsWhileNothingListensIfNoneAreHeld) {
  configure("[host]\nhold = \"0s\"\n");
  start();
  const Box box;
  const std::string inside = file("app.sock");
  const std::string id = forwarded(box, inside);
  const std::string path = forward_with(id)["host_path"];
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(greeting_at(path), "0 here\n");
    box.close_unix();
    ASSERT_EQ(::unlink(inside.c_str()), 0);
    ASSERT_TRUE(becomes(id, "waiting"));
    EXPECT_FALSE(connected_to(path).valid());
    EXPECT_EQ(error, ECONNREFUSED);
    ASSERT_EQ(box.open_unix(inside), 0);
    ASSERT_TRUE(becomes(id, "active"));
    ASSERT_TRUE(until([&] { return connected_to(path).valid(); }));
  }
}

TEST_F(SystemUnixForward, APathThatAnotherProgramHasTakenIsAConflictUntilItIsFree) {
  configure("[host]\nhold = \"0s\"\n");
  start();
  const Box box;
  const std::string inside = file("app.sock");
  const std::string id = forwarded(box, inside);
  const std::string path = forward_with(id)["host_path"];
  box.close_unix();
  ASSERT_EQ(::unlink(inside.c_str()), 0);
  ASSERT_TRUE(becomes(id, "waiting"));
  ASSERT_EQ(::unlink(path.c_str()), 0);
  std::ofstream(path) << "precious";
  ASSERT_EQ(box.open_unix(inside), 0);
  ASSERT_TRUE(becomes(id, "conflict"));
  EXPECT_EQ(std::filesystem::file_size(path), 8U);
  ASSERT_EQ(::unlink(path.c_str()), 0);
  ASSERT_TRUE(becomes(id, "active"));
  EXPECT_TRUE(until([&] { return greeting_at(path) == "0 here\n"; }));
}

TEST_F(SystemUnixForward, NeverTouchesAFileThatIsAtItsPath) {
  start();
  const Box box;
  const std::string inside = file("app.sock");
  const std::string path = file("mine");
  std::ofstream(path) << "precious";
  ASSERT_EQ(box.open_unix(inside), 0);
  const Json made = json({"forward", name_of(box), "unix:" + inside + ":" + path});
  EXPECT_TRUE(until([&] {
    const std::string reason = forward_with(made["id"])["reason"];
    return reason.find("a regular file is there") != std::string::npos;
  }));
  EXPECT_EQ(forward_with(made["id"])["state"], "conflict");
  EXPECT_EQ(std::filesystem::file_size(path), 8U);
}

TEST_F(SystemUnixForward, ReplacesWhatAKilledDaemonHasLeft) {
  start();
  const Box box;
  const std::string inside = file("app.sock");
  const std::string path = file("elsewhere.sock");
  ASSERT_EQ(box.open_unix(inside), 0);
  const std::string name = name_of(box);
  const Json automatic = json({"forward", name, "unix:" + inside, "--persist"});
  ASSERT_TRUE(becomes(automatic["id"], "active"));
  const std::string first = forward_with(automatic["id"])["host_path"];
  ASSERT_EQ(ctl({"unforward", first}).status, 0);
  const Json made = json({"forward", name, "unix:" + inside + ":" + path, "--persist"});
  ASSERT_TRUE(becomes(made["id"], "active"));
  ASSERT_TRUE(until([&] {
    std::ifstream state(file("state/portfwd/state.json"));
    const std::string text((std::istreambuf_iterator<char>(state)), {});
    return text.find("elsewhere.sock") != std::string::npos;
  }));
  ::kill(daemon_->pid(), SIGKILL);
  ASSERT_TRUE(until([&] { return daemon_->ended(); }));
  EXPECT_TRUE(exists(path));
  start();
  EXPECT_TRUE(until([&] { return greeting_at(path) == "0 here\n"; }));
}

TEST_F(SystemUnixForward, EndsWithItsContainer) {
  start();
  Box box;
  const std::string inside = file("app.sock");
  const std::string id = forwarded(box, inside);
  const std::string path = forward_with(id)["host_path"];
  const UniqueFd client = connected_to(path);
  EXPECT_EQ(read_line(client), "0 here\n");
  box.end();
  EXPECT_TRUE(until([&] { return forward_with(id) == nullptr; }));
  EXPECT_TRUE(until([&] { return !exists(path); }));
}

TEST_F(SystemUnixForward, KeepsTheRecordsOfASeqpacketSocket) {
  start();
  const Box box;
  const std::string inside = file("app.sock");
  ASSERT_EQ(box.open_unix(inside, SOCK_SEQPACKET), 0);
  const std::string name = name_of(box);
  ASSERT_TRUE(until([&] { return !container_of(box.pid())["listeners"].empty(); }));
  const Json made = json({"forward", name, "unix:" + inside});
  ASSERT_TRUE(becomes(made["id"], "active"));
  EXPECT_EQ(forward_with(made["id"])["socket_type"], "seqpacket");
  const UniqueFd client = connected_to(forward_with(made["id"])["host_path"], SOCK_SEQPACKET);
  ASSERT_TRUE(client.valid()) << std::strerror(error);
  EXPECT_EQ(read_line(client), "0 here\n");
  EXPECT_TRUE(echoes(client, "a record"));
}

TEST_F(SystemUnixForward, DetectedSocketsThatAreIncludedAreForwardedUpToTheLimit) {
  configure("[unix]\ninclude = [\"/*/*/?.sock\"]\nmax_sockets = 2\n");
  start();
  const Box box;
  for (const char* name : {"a.sock", "b.sock", "c.sock", "other.sock"}) {
    ASSERT_EQ(box.open_unix(file(name)), 0);
  }
  ASSERT_TRUE(until([&] { return json({"list"}).size() == 2; }));
  ASSERT_TRUE(until([&] {
    return std::ranges::all_of(json({"list"}),
                               [](const Json& f) { return f["state"] == "active"; });
  }));
  for (const Json& forward : json({"list"})) {
    EXPECT_EQ(forward["origin"], "auto");
    EXPECT_EQ(greeting_at(forward["host_path"]), "0 here\n");
  }
  const std::string name = container_of(box.pid())["name"];
  EXPECT_EQ(json({"explain", name, "unix:" + file("c.sock")})["remedies"][0]["code"],
            "raise-max-sockets");
  EXPECT_EQ(json({"explain", name, "unix:" + file("other.sock")})["remedies"][1]["code"],
            "forward-port");
}

TEST_F(SystemUnixForward, SharesASocketOfTheHostAndFollowsItsRestart) {
  start();
  const Box box;
  const Box service = Box::on_host();
  const std::string host = file("service.sock");
  const std::string inside = file("inside/shared.sock");
  ASSERT_EQ(service.open_unix(host), 0);
  const Json made =
      json({"share", name_of(box), "unix:" + host, "--at", inside, "--create-parents"});
  EXPECT_EQ(made["state"], "active") << made["reason"];
  EXPECT_EQ(made["direction"], "reverse");
  EXPECT_EQ(made["container_path"], inside);
  EXPECT_EQ(mode_of(inside), 0600U);
  const UniqueFd client = connected_to(inside);
  EXPECT_EQ(read_line(client), "0 here\n");
  EXPECT_TRUE(echoes(client, "to the host"));
  service.close_unix();
  ASSERT_EQ(::unlink(host.c_str()), 0);
  ASSERT_EQ(service.open_unix(host), 0);
  EXPECT_EQ(greeting_at(inside), "0 here\n") << "each connection is dialled for";
  EXPECT_TRUE(container_of(box.pid())["listeners"].empty()) << "the daemon's own is not listed";
  ASSERT_EQ(ctl({"unforward", std::string(made["id"])}).status, 0);
  EXPECT_TRUE(until([&] { return !exists(file("inside")); })) << "its folder is removed as well";
}

TEST_F(SystemUnixForward, AShareOfTheConfigurationAppearsInContainersThatMatch) {
  ::setenv("PORTFWD_TEST_SOCKET", file("service.sock").c_str(), 1);
  configure(
      "[[share]]\nname = \"service\"\ncontainer = \"*\"\n"
      "host = \"unix:$PORTFWD_TEST_SOCKET\"\ninside = \"" +
      file("shared.sock") + "\"\n");
  start();
  const Box service = Box::on_host();
  ASSERT_EQ(service.open_unix(file("service.sock")), 0);
  Box box;
  ASSERT_TRUE(wait_for_container(box.pid()));
  ASSERT_TRUE(until([&] { return exists(file("shared.sock")); }));
  ASSERT_TRUE(until([&] {
    const Json all = json({"list"});
    return all.size() == 1 && all[0]["state"] == "active";
  }));
  EXPECT_EQ(json({"list"})[0]["label"], "service");
  EXPECT_EQ(greeting_at(file("shared.sock")), "0 here\n");
  box.end();
  EXPECT_TRUE(until([&] { return json({"list"}).empty(); }));
  EXPECT_TRUE(until([&] { return !exists(file("shared.sock")); }));
}

TEST_F(SystemUnixForward, PassesDescriptorsOnlyIfAsked) {
  start();
  const Box box;
  const Box service = Box::on_host();
  ASSERT_EQ(service.open_unix(file("service.sock")), 0);
  const std::string name = name_of(box);
  const auto sends = [&](const std::string& path) {
    const UniqueFd client = connected_to(path);
    EXPECT_EQ(read_line(client), "0 here\n");
    const char byte = 'x';
    iovec part{const_cast<char*>(&byte), 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* item = CMSG_FIRSTHDR(&message);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = client.get();
    std::memcpy(CMSG_DATA(item), &fd, sizeof fd);
    if (::sendmsg(client.get(), &message, MSG_NOSIGNAL) != 1) return false;
    Received got;
    until([&] {
      read_available(client, got);
      return got.ending != Ending::None || !got.text.empty();
    });
    return got.text == "x";
  };
  const std::string host = "unix:" + file("service.sock");
  EXPECT_EQ(json({"share", name, host, "--at", file("plain.sock")})["state"], "active");
  EXPECT_EQ(json({"share", name, host, "--at", file("with.sock"), "--pass-fds"})["state"],
            "active");
  EXPECT_FALSE(sends(file("plain.sock"))) << "EPERM, or a reset before Linux 6.16";
  EXPECT_TRUE(sends(file("with.sock")));
}

}  // namespace
}  // namespace portfwd
