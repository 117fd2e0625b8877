// What a broker does at paths, called directly: sockets that it binds, replaces and removes, and
// files of others that it must leave alone.
#include <fstream>
#include <functional>
#include <vector>

#include "support/unix_sockets_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;

// Each kind of file that is not a socket of ours.
struct Plant {
  const char* name;
  FileKind kind;
  std::function<UniqueFd(const std::string& path)> make;
};

std::vector<Plant> plants(const std::string& target) {
  return {
      {"live socket", FileKind::Socket, [](const std::string& p) { return socket_at(p); }},
      {"stale socket", FileKind::Socket,
       [](const std::string& p) {
         socket_at(p).reset();
         return UniqueFd();
       }},
      {"file", FileKind::Regular,
       [](const std::string& p) {
         std::ofstream(p) << "data";
         return UniqueFd();
       }},
      {"folder", FileKind::Folder,
       [](const std::string& p) {
         fs::create_directory(p);
         return UniqueFd();
       }},
      {"pipe", FileKind::Fifo,
       [](const std::string& p) {
         EXPECT_EQ(::mkfifo(p.c_str(), 0666), 0);
         return UniqueFd();
       }},
      {"link", FileKind::Link,
       [target](const std::string& p) {
         fs::create_symlink(target, p);
         return UniqueFd();
       }},
      {"link that leads nowhere", FileKind::Link,
       [](const std::string& p) {
         fs::create_symlink("/run/nothing", p);
         return UniqueFd();
       }},
  };
}

TEST_F(UnixSocketsTest, BindsOnlyByDefaultAndReportsTheIdentity) {
  const auto made = listen("/run/s", {.mode = 0640});
  ASSERT_EQ(made.error, 0);
  EXPECT_EQ(made.bound.made.file, id_of(inside("/run/s")));
  EXPECT_EQ(made.bound.made.parents, 0u);
  EXPECT_EQ(connect("/run/s"), ECONNREFUSED);
  EXPECT_EQ(::listen(made.socket.get(), 4), 0);
  EXPECT_EQ(connect("/run/s"), 0);
  EXPECT_TRUE(has_client(made.socket));
  struct stat about {};
  ASSERT_EQ(::lstat(inside("/run/s").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode, static_cast<mode_t>(S_IFSOCK | 0640));
  EXPECT_EQ(entries(), Names{"s"}) << "nothing else is left";
}

TEST_F(UnixSocketsTest, ListensIfThatIsRequested) {
  const auto made = listen("/run/s", {.backlog = 4});
  EXPECT_EQ(connect_to(inside("/run/s")), 0);
}

TEST_F(UnixSocketsTest, MakesSocketsOfPackets) {
  const auto made = listen("/run/s", {.type = SocketType::Seqpacket, .backlog = 4});
  ASSERT_EQ(made.error, 0);
  EXPECT_EQ(connect("/run/s"), EPROTOTYPE) << "a stream";
}

TEST_F(UnixSocketsTest, NeverTouchesAnotherFileAtThePath) {
  const UniqueFd target = socket_at(host("/s"));
  for (const Plant& plant : plants(host("/s"))) {
    SCOPED_TRACE(plant.name);
    const std::string path = inside("/run/planted");
    const UniqueFd kept = plant.make(path);
    const FileId id = id_of(path);
    for (const bool replace : {false, true}) {
      ListenOptions options;
      if (replace) options.replace = FileId{id.device, id.inode + 1};
      const auto made = listen("/run/planted", options);
      EXPECT_EQ(made.error, plant.kind == FileKind::Socket ? EADDRINUSE : EEXIST);
      EXPECT_EQ(made.found, plant.kind);
    }
    FileKind found{};
    EXPECT_EQ(remove({UnixPath{"/run/planted"}, {.file = {id.device, id.inode + 1}}}, &found),
              ESTALE);
    EXPECT_EQ(found, plant.kind);
    EXPECT_EQ(id_of(path), id);
    EXPECT_EQ(entries(), Names{"planted"});
    fs::remove_all(path);
  }
  EXPECT_FALSE(has_client(target));
}

/// An identity alone is not enough: the file must be a socket.
TEST_F(UnixSocketsTest, NeverReplacesOrRemovesAFileThatIsNotASocket) {
  for (const Plant& plant : plants(host("/s"))) {
    if (plant.kind == FileKind::Socket) continue;
    SCOPED_TRACE(plant.name);
    const std::string path = inside("/run/planted");
    (void)plant.make(path);
    const FileId id = id_of(path);
    EXPECT_EQ(listen("/run/planted", {.replace = id}).error, EEXIST);
    EXPECT_EQ(remove({UnixPath{"/run/planted"}, {.file = id}}), ESTALE);
    EXPECT_EQ(id_of(path), id);
    fs::remove_all(path);
  }
}

TEST_F(UnixSocketsTest, ReplacesTheSocketThatIsNamed) {
  const auto old = listen("/run/s", {.backlog = 4});
  const auto made = listen("/run/s", {.backlog = 4, .replace = old.bound.made.file});
  ASSERT_EQ(made.error, 0);
  EXPECT_NE(made.bound.made.file, old.bound.made.file);
  EXPECT_EQ(made.bound.made.file, id_of(inside("/run/s")));
  EXPECT_EQ(connect("/run/s"), 0);
  EXPECT_TRUE(has_client(made.socket));
  EXPECT_FALSE(has_client(old.socket));
  EXPECT_EQ(entries(), Names{"s"});
}

TEST_F(UnixSocketsTest, ReplacesNothingAtAFreePath) {
  EXPECT_EQ(listen("/run/s", {.replace = FileId{1, 2}}).error, 0);
  EXPECT_EQ(entries(), Names{"s"});
}

TEST_F(UnixSocketsTest, RemovesItsOwnPath) {
  const auto made = listen("/run/s");
  EXPECT_EQ(remove(made.bound), 0);
  EXPECT_EQ(entries(), Names{});
  EXPECT_EQ(remove(made.bound), ENOENT);
}

TEST_F(UnixSocketsTest, MakesMissingFoldersAndRemovesThemIfTheyAreEmpty) {
  EXPECT_EQ(listen("/a/b/c/s").error, ENOENT);
  const auto made = listen("/a/./b//c/s", {.make_parents = true});
  ASSERT_EQ(made.error, 0);
  ASSERT_EQ(made.bound.made.parents, 3u);
  EXPECT_EQ(made.bound.made.made[0], id_of(inside("/a")));
  EXPECT_EQ(made.bound.made.made[2], id_of(inside("/a/b/c")));
  struct stat about {};
  ASSERT_EQ(::stat(inside("/a/b").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0755u);
  std::ofstream(inside("/a/kept"));
  EXPECT_EQ(remove(made.bound), 0);
  EXPECT_EQ(entries("/a"), Names{"kept"});
}

TEST_F(UnixSocketsTest, NeverRemovesFoldersOfOthers) {
  const auto made = listen("/a/b/s", {.make_parents = true});
  ASSERT_EQ(made.error, 0);
  fs::rename(inside("/a"), inside("/before"));
  fs::create_directories(inside("/a/b"));
  EXPECT_EQ(remove(made.bound), ENOENT);
  EXPECT_TRUE(fs::exists(inside("/a/b"))) << "another folder of that name";
  EXPECT_TRUE(fs::exists(inside("/before/b/s"))) << "moved away by its owner";
}

TEST_F(UnixSocketsTest, ExistingFoldersStayAfterARemoval) {
  fs::permissions(inside("/run"), fs::perms{0700});
  const auto made = listen("/run/app/s", {.make_parents = true});
  EXPECT_EQ(made.bound.made.parents, 1u);
  EXPECT_EQ(remove(made.bound), 0);
  EXPECT_EQ(entries("/run"), Names{});
  EXPECT_EQ(fs::status(inside("/run")).permissions(), fs::perms{0700});
}

TEST_F(UnixSocketsTest, LeavesNoFoldersBehindAFailure) {
  fs::create_directory(inside("/a"));
  EXPECT_EQ(listen("/a/b/c/../s", {.make_parents = true}).error, ENOENT);
  EXPECT_EQ(entries("/a"), Names{});
  std::string deep = "/a";
  for (std::uint32_t i = 0; i <= broker::kMostParents; ++i) deep += "/f";
  EXPECT_EQ(listen(deep + "/s", {.make_parents = true}).error, ENOENT);
  EXPECT_EQ(entries("/a"), Names{});
  EXPECT_EQ(listen("/a/b/s", {.owner = InnerUser{0xfffffffe, 0}, .make_parents = true}).error != 0,
            true);
  EXPECT_EQ(entries("/a"), Names{});
}

TEST_F(UnixSocketsTest, MakesNoFolderThroughALinkThatLeadsNowhere) {
  fs::create_symlink(host("/new"), inside("/out"));
  fs::create_symlink("../../../.." + host("/new"), inside("/up"));
  for (const char* path : {"/out/s", "/up/s", "/out/a/s"}) {
    EXPECT_EQ(listen(path, {.make_parents = true}).error, ENOENT) << path;
  }
  EXPECT_FALSE(fs::exists(host("/new")));
  EXPECT_EQ(entries("/"), (Names{"run", "out", "up"}));
}

TEST_F(UnixSocketsTest, FollowsLinksToFoldersInsideOnly) {
  fs::create_symlink(host(""), inside("/folder"));
  EXPECT_EQ(listen("/folder/new").error, ENOENT);
  EXPECT_EQ(remove({UnixPath{"/folder/s"}, {.file = {1, 1}}}), ENOENT);
  fs::create_symlink("/run", inside("/var"));
  const auto made = listen("/var/new");
  EXPECT_EQ(made.error, 0);
  EXPECT_EQ(entries(), Names{"new"});
  EXPECT_EQ(remove(made.bound), 0);
  EXPECT_EQ(entries(), Names{});
}

TEST_F(UnixSocketsTest, DialsThroughLinksInsideOnly) {
  const UniqueFd server = socket_at(inside("/run/s"));
  const UniqueFd outside = socket_at(host("/s"));
  fs::create_symlink("/run/s", inside("/run/link"));
  fs::create_symlink("link", inside("/run/chain"));
  fs::create_symlink(host("/s"), inside("/absolute"));
  fs::create_symlink("../../../../../../.." + host("/s"), inside("/upwards"));
  fs::create_symlink("absolute", inside("/chain"));
  fs::create_symlink(host(""), inside("/folder"));
  fs::create_symlink("loop", inside("/loop"));
  for (const char* path : {"/run/s", "/run/link", "/run/chain", "/../run//./s"}) {
    EXPECT_EQ(connect(path), 0) << path;
    EXPECT_TRUE(has_client(server)) << path;
  }
  for (const char* path : {"/absolute", "/upwards", "/chain", "/folder/s", "/../host/s"}) {
    EXPECT_EQ(connect(path), ENOENT) << path;
  }
  EXPECT_EQ(connect("/loop"), ELOOP);
  EXPECT_FALSE(has_client(outside));
}

TEST_F(UnixSocketsTest, FollowsNoMagicLink) {
  const UniqueFd outside = socket_at(host("/s"));
  const UniqueFd proc(::open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  const UniqueFd folder(::open(host("").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const std::string self = "/" + std::to_string(::getpid());
  std::swap(root, const_cast<UniqueFd&>(proc));
  for (const std::string& way :
       {self + "/root" + host(""), self + "/cwd", self + "/fd/" + std::to_string(folder.get())}) {
    EXPECT_EQ(connect(way + "/s"), ELOOP) << way;
    EXPECT_EQ(listen(way + "/new").error, ELOOP) << way;
    EXPECT_EQ(remove({UnixPath{way + "/s"}, {.file = id_of(host("/s"))}}), ELOOP) << way;
  }
  EXPECT_FALSE(has_client(outside));
  EXPECT_TRUE(fs::exists(host("/s")));
}

TEST_F(UnixSocketsTest, DialsNothingButSockets) {
  for (const Plant& plant : plants("/run/file")) {
    if (plant.kind == FileKind::Socket || plant.kind == FileKind::Link) continue;
    const std::string path = inside("/run/planted");
    (void)plant.make(path);
    FileKind found{};
    EXPECT_EQ(connect("/run/planted", &found), ENOTSOCK) << plant.name;
    EXPECT_EQ(found, plant.kind) << plant.name;
    fs::remove_all(path);
  }
  const UniqueFd dev(::open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC));
  std::swap(root, const_cast<UniqueFd&>(dev));
  FileKind found{};
  EXPECT_EQ(connect("/null", &found), ENOTSOCK);
  EXPECT_EQ(found, FileKind::Device);
}

TEST_F(UnixSocketsTest, ReportsTheErrorOfADial) {
  EXPECT_EQ(connect("/run/nothing"), ENOENT);
  EXPECT_EQ(connect("/run/nothing/s"), ENOENT);
  socket_at(inside("/run/s")).reset();
  EXPECT_EQ(connect("/run/s"), ECONNREFUSED);
  EXPECT_EQ(connect("/run/s/"), ENOTDIR);
  EXPECT_EQ(connect("/run/s/s"), ENOTDIR);
  const UniqueFd full = socket_at(inside("/run/full"), false);
  EXPECT_EQ(::listen(full.get(), 0), 0);
  EXPECT_EQ(connect("/run/full"), 0);
  EXPECT_EQ(connect("/run/full"), EAGAIN);
}

TEST_F(UnixSocketsTest, APathToCreateNamesAnEntry) {
  for (const char* path : {"/", "/run/", "/run/.", "/run/..", "//"}) {
    EXPECT_EQ(listen(path).error, EINVAL) << path;
    EXPECT_EQ(remove({UnixPath{path}, {.file = {1, 1}}}), EINVAL) << path;
  }
  EXPECT_EQ(listen("/nothing/s").error, ENOENT);
  std::ofstream(inside("/file"));
  EXPECT_EQ(listen("/file/s").error, ENOTDIR);
  EXPECT_EQ(listen("/file/a/s", {.make_parents = true}).error, ENOTDIR);
}

TEST_F(UnixSocketsTest, BindsNamesOfAnyBytesAndLength) {
  const std::string longest(broker::kPathSize - 1 - std::strlen("/run/"), 'x');
  for (const std::string& name : {std::string("\n\x01\x7f"), std::string("\xff\xfe"),
                                  std::string(" a b "), std::string("..."), std::string(101, 'y'),
                                  std::string(102, 'z'), std::string(103, 'w'), longest}) {
    const auto made = listen("/run/" + name, {.backlog = 4});
    ASSERT_EQ(made.error, 0) << name.size();
    EXPECT_EQ(entries(), Names{name});
    EXPECT_EQ(connect("/run/" + name), 0);
    EXPECT_EQ(remove(made.bound), 0);
    EXPECT_EQ(entries(), Names{});
  }
  EXPECT_EQ(listen("/run/" + longest + "x").error, ENAMETOOLONG);
}

}  // namespace
}  // namespace portfwd
