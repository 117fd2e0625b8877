// portfwd.toml(5) prints every key with its default: read as a configuration, that must change
// nothing. That it names every key is seen to by tests/docs/reference.
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "config/config_file.h"

namespace portfwd {
namespace {

/// The lines of the page between "# config.toml" and the end of that example.
std::string documented_example() {
  std::ifstream page(PORTFWD_SOURCE_DIR "/man/portfwd.toml.5");
  std::string example;
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    inside = line == "# config.toml" || (inside && line != ".EE");
    if (inside) example += line + "\n";
  }
  return example;
}

TEST(ConfigManPage, PrintsTheDefaults) {
  const std::string example = documented_example();
  ASSERT_NE(example.find("\n[ports]\n"), std::string::npos) << "the example was not found";
  const auto read = parse_config(example, "portfwd.toml.5");
  ASSERT_TRUE(read) << read.error().front().message();
  EXPECT_EQ(*read, Settings{});
}

}  // namespace
}  // namespace portfwd
