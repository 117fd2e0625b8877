// Addresses of engines from the environment, docker's context and defaults.
#include "engine/engine_sockets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace portfwd {
namespace {

using testing::ElementsAre;

TEST(EngineSockets, ListTheUsersBeforeTheSystems) {
  const auto found = engine_sockets({.runtime_dir = "/run/user/7"});
  EXPECT_THAT(found.podman,
              ElementsAre("/run/user/7/podman/podman.sock", "/run/podman/podman.sock"));
  EXPECT_THAT(found.docker, ElementsAre("/run/user/7/docker.sock", "/run/docker.sock"));
  EXPECT_TRUE(found.elsewhere.empty());
}

TEST(EngineSockets, ListThoseOfTheEnvironmentFirstWithoutDuplicates) {
  const auto found = engine_sockets({.docker_host = "unix:///run/docker.sock",
                                     .container_host = "unix:///a/b",
                                     .runtime_dir = ""});
  EXPECT_THAT(found.podman, ElementsAre("/a/b", "/run/podman/podman.sock"));
  EXPECT_THAT(found.docker, ElementsAre("/run/docker.sock"));
}

TEST(EngineSockets, ListEnginesOnOtherMachinesSeparately) {
  const auto found = engine_sockets(
      {.docker_host = "ssh://me@far", .container_host = "tcp://10.0.0.1:8080", .runtime_dir = ""});
  EXPECT_THAT(found.docker, ElementsAre("/run/docker.sock"));
  ASSERT_EQ(found.elsewhere.size(), 2U);
  EXPECT_EQ(found.elsewhere[0].named_by, "CONTAINER_HOST");
  EXPECT_EQ(found.elsewhere[1].kind, EngineKind::Docker);
  EXPECT_EQ(found.elsewhere[1].address, "ssh://me@far");
}

TEST(EngineSockets, AreThoseOfDockersContextUnlessTheEnvironmentNamesOne) {
  EngineEnvironment environment{.runtime_dir = "", .docker_context = {{"near", "unix:///a/b"}}};
  EXPECT_THAT(engine_sockets(environment).docker, ElementsAre("/a/b", "/run/docker.sock"));
  environment.docker_context->host = "tcp://10.0.0.1:2375";
  const auto found = engine_sockets(environment);
  EXPECT_THAT(found.docker, ElementsAre("/run/docker.sock"));
  ASSERT_EQ(found.elsewhere.size(), 1U);
  EXPECT_EQ(found.elsewhere[0].named_by, "docker's context near");
  environment.docker_host = "unix:///c/d";
  EXPECT_TRUE(engine_sockets(environment).elsewhere.empty());
}

}  // namespace
}  // namespace portfwd
