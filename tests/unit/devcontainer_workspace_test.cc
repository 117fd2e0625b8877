// The files that are read for the labels of a dev container.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "devcontainer/workspace.h"

namespace portfwd::devcontainer {
namespace {

using testing::HasSubstr;
using Labels = std::map<std::string, std::string>;
using Places = std::vector<ConfigPlace>;

TEST(DevcontainerFile, IsLookedForWhereTheSpecificationSays) {
  EXPECT_TRUE(config_places({}).empty());
  const Labels folder{{"devcontainer.local_folder", "/src/app/"}};
  EXPECT_EQ(config_places(folder), (Places{{"/src/app", ".devcontainer/devcontainer.json"},
                                           {"/src/app", ".devcontainer.json"}}));
  Labels both = folder;
  both["devcontainer.config_file"] = "/src/app/.devcontainer/py/devcontainer.json";
  EXPECT_EQ(config_places(both).front(),
            (ConfigPlace{"/src/app", ".devcontainer/py/devcontainer.json"}));
  EXPECT_EQ(config_places({{"devcontainer.config_file", "/else/devcontainer.json"}}),
            (Places{{"/else", "devcontainer.json"}}));
}

TEST(DevcontainerFile, ALabelCanNameNothingElse) {
  for (const char* path : {"/etc/shadow", "devcontainer.json", "/src/../etc/devcontainer.json",
                           "/src/xdevcontainer.json", "c:\\src\\devcontainer.json",
                           "/devcontainer.json", "/proc/1/root/devcontainer.json"}) {
    EXPECT_TRUE(config_places(Labels{{"devcontainer.config_file", path}}).empty()) << path;
  }
  for (const char* path : {"../src", "/src/..", "/", "", "/proc", "/proc/7/root/src", "/dev/fd/3",
                           "/sys/fs", "//proc/7/root", "/src//app"}) {
    EXPECT_TRUE(config_places(Labels{{"devcontainer.local_folder", path}}).empty()) << path;
  }
  EXPECT_FALSE(config_places(Labels{{"devcontainer.local_folder", "/process"}}).empty());
}

TEST(DevcontainerFile, ThatIsNotReadSaysWhyAndWhatWouldHelp) {
  const ConfigPlace place{"/src/app", ".devcontainer/devcontainer.json"};
  EXPECT_THAT(describe_read_failure(place, {EXDEV, "reader"}),
              HasSubstr("link leads out of /src/app"));
  EXPECT_THAT(describe_read_failure(place, {ETIMEDOUT, "reader"}), HasSubstr("did not answer"));
  EXPECT_THAT(describe_read_failure(place, {EINVAL, "reader"}),
              HasSubstr("/src/app/.devcontainer/"));
}

}  // namespace
}  // namespace portfwd::devcontainer
