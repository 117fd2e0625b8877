// Files of the user that are not what they should be, by accident or because a container has
// mounted the home folder: pipes, devices, folders, and very large files.
#include <sys/stat.h>

#include "stall/stall_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;

struct StallByFile : StallTest {
  StallByFile() { std::filesystem::create_directories(file("portfwd/config.d")); }

  [[nodiscard]] std::string config_file(const std::string& name) const {
    return file("portfwd/config.d/" + name);
  }
};

TEST_F(StallByFile, IsNotSeenBesideAPipeInThePlaceOfConfiguration) {
  expect_no_stall_beside([&] {
    ASSERT_EQ(::mkfifo(config_file("pipe.toml").c_str(), 0600), 0);
    go_on_for(1s);
    std::filesystem::remove(config_file("pipe.toml"));
    go_on_for(200ms);
  });
}

TEST_F(StallByFile, IsNotSeenBesideAnEndlessDeviceInThePlaceOfConfiguration) {
  expect_no_stall_beside([&] {
    std::filesystem::create_symlink("/dev/zero", config_file("zero.toml"));
    go_on_for(1s);
    std::filesystem::remove(config_file("zero.toml"));
    go_on_for(200ms);
  });
}

TEST_F(StallByFile, IsNotSeenBesideAHugeConfiguration) {
  expect_no_stall_beside([&] {
    std::ofstream big(config_file("new"));
    for (int i = 0; i < 200'000; ++i) big << "[[rule]]\ncontainer = \"c" << i << "\"\n";
    big.close();
    std::filesystem::rename(config_file("new"), config_file("big.toml"));
    go_on_for(1s);
    std::filesystem::remove(config_file("big.toml"));
    go_on_for(200ms);
  });
}

TEST_F(StallByFile, IsNotSeenBesideAPipeWhereStateIsWritten) {
  std::filesystem::create_directories(file("state/portfwd"));
  expect_no_stall_beside([&] {
    ::mkfifo(file("state/portfwd/state.json.new").c_str(), 0600);
    const Said made = ctl({"forward", "later", "9000", "--allow-missing", "--persist"});
    EXPECT_EQ(made.status, 0) << made.err;
    go_on_for(2s);
    EXPECT_EQ(ctl({"unforward", "later:9000"}).status, 0);
    go_on_for(1500ms);
  });
}

}  // namespace
}  // namespace portfwd
