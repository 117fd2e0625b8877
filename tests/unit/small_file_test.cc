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

struct SmallFile : testing::Test {
  [[nodiscard]] std::string at(const std::string& name) const { return folder.path() + "/" + name; }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(at(name)) << text;
    return at(name);
  }
  /// Why it cannot be read; 0 when it can.
  static int code(const std::string& path, std::size_t limit = kSmallFile) {
    const auto read = read_small_file(path, limit);
    if (read) return 0;
    EXPECT_NE(unreadable_reason(read.error(), limit), "");
    return read.error().code;
  }
  testing_support::TempDir folder;
};

TEST_F(SmallFile, ReadsAFileUpToItsLimit) {
  EXPECT_EQ(read_small_file(write("empty", "")), "");
  const std::string text(100000, 'x');
  EXPECT_EQ(read_small_file(write("file", text), text.size()), text);
  EXPECT_EQ(code(at("file"), text.size() - 1), EFBIG);
  std::filesystem::create_symlink("file", at("link"));
  EXPECT_EQ(read_small_file(at("link")), text);
  EXPECT_EQ(read_small_file(at("link"), kSmallFile, Links::Refuse).error().code, ELOOP);
}

TEST_F(SmallFile, ReadsAFileWithoutASize) {
  const auto status = read_small_file("/proc/self/status");
  ASSERT_TRUE(status) << status.error().text();
  EXPECT_NE(status->find("Threads:"), std::string::npos);
  EXPECT_EQ(code("/proc/self/status", 10), EFBIG);
}

TEST_F(SmallFile, RejectsWhatIsNoRegularFile) {
  EXPECT_EQ(code(folder.path()), EISDIR);
  ASSERT_EQ(::mkfifo(at("fifo").c_str(), 0600), 0);
  EXPECT_EQ(code(at("fifo")), ESPIPE);
  EXPECT_EQ(code("/dev/zero"), ENODEV);
  std::filesystem::create_symlink("/dev/zero", at("flood"));
  EXPECT_EQ(code(at("flood")), ENODEV);
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{AF_UNIX, ""};
  ASSERT_LT(at("socket").size(), sizeof address.sun_path);
  std::strcpy(address.sun_path, at("socket").c_str());
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(code(at("socket")), ENXIO);
}

TEST_F(SmallFile, DistinguishesADanglingLinkFromAMissingFile) {
  EXPECT_EQ(code(at("nothing")), ENOENT);
  std::filesystem::create_symlink("nothing", at("link"));
  EXPECT_EQ(code(at("link")), ENOENT);
  EXPECT_EQ(read_small_file(at("link")).error().op, kFollowLink);
  EXPECT_NE(read_small_file(at("nothing")).error().op, kFollowLink);
  std::filesystem::create_symlink("loop", at("loop"));
  EXPECT_EQ(code(at("loop")), ELOOP);
}

TEST_F(SmallFile, RejectsAFileInPlaceOfTheFolder) {
  EXPECT_EQ(code(write("file", "") + "/config.toml"), ENOTDIR);
}

}  // namespace
}  // namespace portfwd
