// Names under which the daemon stores what it remembers of a container.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "state/container_memory.h"

namespace portfwd {
namespace {

using testing::ElementsAre;

std::vector<std::string> names_of(const std::map<std::string, std::string>& labels) {
  Container container;
  container.name = "quirky_morse";
  container.labels = labels;
  return lasting_names(container);
}

TEST(LastingNames, AreTheNameWithoutLabels) {
  EXPECT_THAT(names_of({}), ElementsAre("quirky_morse"));
  EXPECT_THAT(names_of({{"maintainer", "me"}}), ElementsAre("quirky_morse"));
}

TEST(LastingNames, AreProjectServiceAndNumberForCompose) {
  EXPECT_THAT(names_of({{"com.docker.compose.project", "shop"},
                        {"com.docker.compose.service", "web"},
                        {"com.docker.compose.container-number", "2"},
                        {"com.docker.compose.config-hash", "changes"}}),
              ElementsAre("{com.docker.compose.service=web, com.docker.compose.project=shop, "
                          "com.docker.compose.container-number=2}",
                          "quirky_morse"));
  EXPECT_THAT(
      names_of({{"io.podman.compose.project", "shop"}, {"io.podman.compose.service", "web"}}),
      ElementsAre("{io.podman.compose.service=web, io.podman.compose.project=shop}",
                  "quirky_morse"));
}

TEST(LastingNames, AreFolderAndFileForADevContainer) {
  EXPECT_THAT(names_of({{"devcontainer.local_folder", "/home/me/shop"},
                        {"devcontainer.config_file", "/home/me/shop/.devcontainer.json"}}),
              ElementsAre("{devcontainer.local_folder=/home/me/shop, "
                          "devcontainer.config_file=/home/me/shop/.devcontainer.json}",
                          "quirky_morse"));
}

TEST(LastingNames, IgnoreLabelsThatIdentifyNothing) {
  EXPECT_THAT(names_of({{"com.docker.compose.project", "shop"}}), ElementsAre("quirky_morse"));
  EXPECT_THAT(names_of({{"devcontainer.local_folder", std::string(5000, 'x')}}),
              ElementsAre("quirky_morse"));
}

}  // namespace
}  // namespace portfwd
