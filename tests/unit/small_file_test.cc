// Reading of the user's files: other kinds of files are rejected, and nothing blocks.
#include "base/small_file.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/unique_fd.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

using Kind = UnreadableFile::Kind;

struct SmallFile : testing::Test {
  [[nodiscard]] std::string at(const std::string& name) const { return folder.path() + "/" + name; }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(at(name)) << text;
    return at(name);
  }
  static Kind kind(const std::string& path, std::size_t limit = kSmallFile) {
    const auto read = read_small_file(path, limit);
    EXPECT_FALSE(read) << path;
    if (read) return Kind::Failed;
    EXPECT_NE(read.error().text(), "");
    return read.error().kind;
  }
  testing_support::TempDir folder;
};

TEST_F(SmallFile, ReadsAFileUpToItsLimit) {
  EXPECT_EQ(read_small_file(write("empty", "")), "");
  const std::string text(100000, 'x');
  EXPECT_EQ(read_small_file(write("file", text), text.size()), text);
  EXPECT_EQ(kind(at("file"), text.size() - 1), Kind::TooLarge);
  std::filesystem::create_symlink("file", at("link"));
  EXPECT_EQ(read_small_file(at("link")), text);
  EXPECT_EQ(read_small_file(at("link"), kSmallFile, Links::Refuse).error().error.code, ELOOP);
}

TEST_F(SmallFile, ReadsAFileThatTellsNoSize) {
  const auto status = read_small_file("/proc/self/status");
  ASSERT_TRUE(status) << status.error().text();
  EXPECT_NE(status->find("Threads:"), std::string::npos);
  EXPECT_EQ(kind("/proc/self/status", 10), Kind::TooLarge);
}

TEST_F(SmallFile, RejectsWhatIsNoRegularFile) {
  EXPECT_EQ(kind(folder.path()), Kind::Folder);
  ASSERT_EQ(::mkfifo(at("fifo").c_str(), 0600), 0);
  EXPECT_EQ(kind(at("fifo")), Kind::Pipe);
  EXPECT_EQ(kind("/dev/zero"), Kind::Device);
  std::filesystem::create_symlink("/dev/zero", at("flood"));
  EXPECT_EQ(kind(at("flood")), Kind::Device);
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{AF_UNIX, ""};
  ASSERT_LT(at("socket").size(), sizeof address.sun_path);
  std::strcpy(address.sun_path, at("socket").c_str());
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(kind(at("socket")), Kind::Socket);
}

TEST_F(SmallFile, TellsADanglingLinkFromNothing) {
  EXPECT_EQ(kind(at("nothing")), Kind::Missing);
  std::filesystem::create_symlink("nothing", at("link"));
  EXPECT_EQ(kind(at("link")), Kind::DanglingLink);
  std::filesystem::create_symlink("loop", at("loop"));
  EXPECT_EQ(kind(at("loop")), Kind::Failed);
}

TEST_F(SmallFile, TellsAFileInThePlaceOfItsFolder) {
  EXPECT_EQ(kind(write("file", "") + "/config.toml"), Kind::NoFolder);
}

}  // namespace
}  // namespace portfwd
