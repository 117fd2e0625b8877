// The engine that the user's docker command uses, by its current context.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "engine/engine_sockets.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

struct DockerContextTest : testing::Test {
  void write(const std::string& file, const std::string& text) const {
    const std::filesystem::path path = folder.path() + "/" + file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  void SetUp() override {
    write("config.json", R"({"auths":{},"currentContext":"far"})");
    write("contexts/meta/0a/meta.json",
          R"({"Name":"near","Endpoints":{"docker":{"Host":"unix:///run/near.sock"}}})");
    write("contexts/meta/0b/meta.json",
          R"({"Name":"far","Endpoints":{"docker":{"Host":"ssh://me@far","SkipTLSVerify":false}}})");
  }
  [[nodiscard]] std::string host(const std::string& chosen = "") const {
    const auto context = current_docker_context(folder.path(), chosen);
    return context ? context->name + " " + context->host : "";
  }
  testing_support::TempDir folder;
};

TEST_F(DockerContextTest, IsReadFromTheConfigurationUnlessOneIsChosen) {
  EXPECT_EQ(host(), "far ssh://me@far");
  EXPECT_EQ(host("near"), "near unix:///run/near.sock");
  EXPECT_EQ(host("default"), "");
  EXPECT_EQ(host("nowhere"), "");
}

TEST_F(DockerContextTest, DoesNotThrowForMalformedFiles) {
  for (const char* text : {"", "{", "[]", "7", R"({"currentContext":7})", "{\"a\":\"\xff\"}"}) {
    write("config.json", text);
    EXPECT_EQ(host(), "") << text;
    write("contexts/meta/0b/meta.json", text);
    EXPECT_EQ(host("far"), "") << text;
  }
  for (const char* text : {R"({"Name":"far"})", R"({"Name":"far","Endpoints":[]})",
                           R"({"Name":"far","Endpoints":{"docker":{"Host":{}}}})"}) {
    write("contexts/meta/0b/meta.json", text);
    EXPECT_EQ(host("far"), "") << text;
  }
  EXPECT_FALSE(current_docker_context("/nonexistent", ""));
  std::filesystem::remove(folder.path() + "/config.json");
  ASSERT_EQ(::mkfifo((folder.path() + "/config.json").c_str(), 0600), 0);
  EXPECT_EQ(host(), "") << "a pipe must not block";
}

}  // namespace
}  // namespace portfwd
