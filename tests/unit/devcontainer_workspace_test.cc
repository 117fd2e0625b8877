// Which files the labels of a dev container may make us read.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "devcontainer/workspace.h"
#include "support/temp_dir.h"

namespace portfwd::devcontainer {
namespace {

using testing_support::TempDir;
using Labels = std::map<std::string, std::string>;

TEST(DevcontainerFile, IsLookedForWhereTheSpecificationSays) {
  EXPECT_TRUE(config_paths({}).empty());
  EXPECT_EQ(config_paths({{"devcontainer.local_folder", "/src/app"}}),
            (std::vector<std::string>{"/src/app/.devcontainer/devcontainer.json",
                                      "/src/app/.devcontainer.json"}));
  EXPECT_EQ(
      config_paths({{"devcontainer.config_file", "/src/app/.devcontainer/py/devcontainer.json"}}),
      (std::vector<std::string>{"/src/app/.devcontainer/py/devcontainer.json"}));
}

TEST(DevcontainerFile, ALabelCanNameNothingElse) {
  for (const char* path : {"/etc/shadow", "devcontainer.json", "/src/../etc/devcontainer.json",
                           "/src/xdevcontainer.json", "c:\\src\\devcontainer.json"}) {
    EXPECT_TRUE(config_paths(Labels{{"devcontainer.config_file", path}}).empty()) << path;
  }
  EXPECT_TRUE(config_paths(Labels{{"devcontainer.local_folder", "../src"}}).empty());
  EXPECT_TRUE(config_paths(Labels{{"devcontainer.local_folder", "/src/.."}}).empty());
}

TEST(DevcontainerFile, IsARegularFileOfTheUserAndNotTooLarge) {
  const TempDir folder;
  const std::string path = folder.path() + "/devcontainer.json";
  const uid_t me = ::geteuid();
  EXPECT_EQ(read_config(path, me).error().code, ENOENT);
  std::ofstream(path) << "{}";
  EXPECT_EQ(read_config(path, me).value(), "{}");
  EXPECT_EQ(read_config(path, me + 1).error().code, EACCES);

  std::ofstream(path) << std::string(kLargestFile + 1, ' ');
  EXPECT_EQ(read_config(path, me).error().code, EFBIG);
  std::filesystem::remove(path);
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(read_config(path, me).error().code, EINVAL);
  std::filesystem::remove(path);
  std::filesystem::create_symlink("/etc/hostname", path);
  EXPECT_EQ(read_config(path, me).error().code, ELOOP);
}

}  // namespace
}  // namespace portfwd::devcontainer
