// JsonSlices: JSON lists and objects split into members without parsing them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/answers.h"

namespace portfwd {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

/// "KEY=VALUE" for each slice, then "!" unless the text was complete.
std::vector<std::string> slices_of(std::string_view text) {
  std::vector<std::string> all;
  JsonSlices slices(text);
  while (const auto slice = slices.next()) {
    all.push_back(slice->key.empty() ? std::string(slice->value)
                                     : std::string(slice->key) + "=" + std::string(slice->value));
  }
  if (!slices.complete()) all.emplace_back("!");
  return all;
}

TEST(JsonSlices, ReturnsElementsAndMembersAsWritten) {
  EXPECT_THAT(slices_of(R"( [1, "a,]\"" , {"b": [2]},[],null ] )"),
              ElementsAre("1", R"("a,]\"")", R"({"b": [2]})", "[]", "null"));
  EXPECT_THAT(slices_of(R"({"a" : 1,"b\"":{"c": "}"}})"), ElementsAre("a=1", R"(b\"={"c": "}"})"));
  EXPECT_THAT(slices_of("[]"), IsEmpty());
  EXPECT_THAT(slices_of("{ }"), IsEmpty());
}

TEST(JsonSlices, IsNotCompleteForTruncatedOrMalformedTexts) {
  for (const char* text : {"", " ", "7", "\"a\"", "[", "{", "[,]", "[1 2]", "[1,]", "{1:2}",
                           "{\"a\"}", "{\"a\":}", "[[]", "[\"a]", "[]]", "{} x", "{\"a", "}"}) {
    const auto slices = slices_of(text);
    ASSERT_FALSE(slices.empty()) << text;
    EXPECT_EQ(slices.back(), "!") << text;
  }
}

}  // namespace
}  // namespace portfwd
