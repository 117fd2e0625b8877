// The client's tables of fields, compared with the interfaces that the daemon publishes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "build_paths.h"
#include "client/values.h"

namespace portfwd::client {
namespace {

std::set<std::string> properties_in_xml(const std::string& interface) {
  std::ostringstream text;
  text << std::ifstream(PORTFWD_SOURCE_DIR "/dbus/org.portfwd1." + interface + ".xml").rdbuf();
  const std::string xml = text.str();
  const std::regex property("<property name=\"(\\w+)\"");
  std::set<std::string> names;
  for (std::sregex_iterator i(xml.begin(), xml.end(), property), end; i != end; ++i) {
    names.insert((*i)[1]);
  }
  return names;
}

template <class Object>
std::set<std::string> properties_in_table() {
  std::set<std::string> names;
  Object object;
  for_each_field(object, [&](const auto& field, const auto&) {
    EXPECT_TRUE(names.insert(field.bus).second) << field.bus << " is listed twice";
  });
  return names;
}

TEST(ClientFields, OfAForwardAreItsPropertiesExceptThePathOfItsContainer) {
  std::set<std::string> published = properties_in_xml("Forward");
  EXPECT_EQ(published.erase("Container"), 1U);  // replaced by ContainerId
  EXPECT_EQ(properties_in_table<Forward>(), published);
}

TEST(ClientFields, OfAContainerAreItsProperties) {
  EXPECT_EQ(properties_in_table<Container>(), properties_in_xml("Container"));
}

TEST(ClientFields, HaveKeysOfTheirOwn) {
  std::set<std::string> keys;
  Forward forward;
  for_each_field(forward, [&](const auto& field, const auto&) {
    EXPECT_TRUE(keys.insert(field.key).second) << field.key;
  });
}

}  // namespace
}  // namespace portfwd::client
