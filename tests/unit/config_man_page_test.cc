// Defaults in portfwd.toml(5): as a configuration they must not change anything.
// tests/docs/reference checks that the page names every key.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "build_paths.h"
#include "config/config_file.h"
#include "policy/policy.h"

namespace portfwd {
namespace {

std::vector<std::string> lines_of_page() {
  std::ifstream page(PORTFWD_SOURCE_DIR "/man/portfwd.toml.5");
  std::vector<std::string> lines;
  for (std::string line; std::getline(page, line);) {
    for (std::size_t at; (at = line.find("\\(dq")) != line.npos;) line.replace(at, 4, "\"");
    lines.push_back(line);
  }
  return lines;
}

/// The lines of the page from "# config.toml" to the end of that example.
std::string documented_example() {
  std::string example;
  bool inside = false;
  for (const std::string& line : lines_of_page()) {
    inside = line == "# config.toml" || (inside && line != ".EE");
    if (inside) example += line + "\n";
  }
  return example;
}

struct Documented {
  std::string key;
  std::string value;  ///< the default
};

/// The keys of a section, such as "[host]", whose default is a value rather than a sentence.
std::vector<Documented> documented_defaults(const std::string& of) {
  constexpr std::string_view kDefault = "Default: ";
  std::vector<Documented> found;
  std::string before;
  std::string section;
  std::string key;
  for (const std::string& line : lines_of_page()) {
    if (std::exchange(before, line) == "Section" && line.starts_with(".BR [")) {
      section = line.substr(4, line.size() - 6);
    } else if (const auto end = line.find(" \" = "); line.starts_with(".BR ") && end != line.npos) {
      key = line.substr(4, end - 4);
    } else if (section == of && line.starts_with(kDefault)) {
      const std::string value = line.substr(kDefault.size(), line.size() - kDefault.size() - 1);
      const bool sentence =
          value.find_first_of("\"[0123456789") != 0 && value.front() != 't' && value.front() != 'f';
      if (!sentence) found.push_back({key, value});
    }
  }
  return found;
}

Settings settings_of(const std::string& toml) {
  const auto read = parse_config(toml, "portfwd.toml.5");
  if (!read) ADD_FAILURE() << read.error().front().message() << "\n" << toml;
  return read.value_or(Settings{});
}

/// The decision on an ordinary listener with these settings.
Decision decision_of(const Settings& settings) {
  const SystemClock clock;
  const MetadataPolicy nobody_wishes(clock);
  Container container;
  container.name = "web";
  Listener listener;
  listener.local = {IpAddress::loopback(Family::V4), 8080};
  return decide({settings, {32768, 60999}, nobody_wishes}, container, listener);
}

TEST(ConfigManPage, PrintsTheDefaults) {
  const std::string example = documented_example();
  ASSERT_NE(example.find("\n[ports]\n"), std::string::npos) << "the example was not found";
  EXPECT_EQ(settings_of(example), Settings{});
}

TEST(ConfigManPage, SaysOfEachKeyOfASectionWhatHoldsWithoutIt) {
  std::size_t keys = 0;
  for (const std::string section : {"[detect]", "[host]", "[ports]", "[unix]"}) {
    for (const auto& [key, value] : documented_defaults(section)) {
      EXPECT_EQ(settings_of(fmt::format("{}\n{} = {}\n", section, key, value)), Settings{}) << key;
      ++keys;
    }
  }
  EXPECT_GE(keys, 25U);
}

TEST(ConfigManPage, SaysOfEachKeyOfARuleWhatHoldsWithoutIt) {
  const Decision without = decision_of(settings_of("[[rule]]\n"));
  const auto documented = documented_defaults("[[rule]]");
  EXPECT_EQ(documented.size(), 6U);
  for (const auto& [key, value] : documented) {
    const Decision with = decision_of(settings_of(fmt::format("[[rule]]\n{} = {}\n", key, value)));
    EXPECT_EQ(with.treatment, without.treatment) << key;
    EXPECT_EQ(with.settle, without.settle) << key;
  }
}

TEST(ConfigManPage, SaysOfEachKeyOfADeclaredForwardWhatHoldsWithoutIt) {
  const std::string least = "[[forward]]\ncontainer = \"web\"\ntarget = \"8080\"\n";
  const auto documented = documented_defaults("[[forward]]");
  EXPECT_EQ(documented.size(), 2U);
  for (const auto& [key, value] : documented) {
    EXPECT_EQ(settings_of(fmt::format("{}{} = {}\n", least, key, value)), settings_of(least))
        << key;
  }
}

}  // namespace
}  // namespace portfwd
