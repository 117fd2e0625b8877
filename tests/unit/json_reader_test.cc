// Parsing of untrusted JSON: values, positions of errors, and limits.
#include "base/json_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace portfwd {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string mistake_in(const std::string& text) {
  const auto read = read_json(text);
  EXPECT_FALSE(read) << text;
  return read ? "" : read.error().text;
}

TEST(JsonReader, ReadsWhatIsWithinTheBounds) {
  EXPECT_EQ(parse_json(R"({"a": [1, "]}[{", "\\\"]"]})")["a"].size(), 3U);
  EXPECT_TRUE(read_json(std::string(kDeepestJson, '[') + std::string(kDeepestJson, ']')));
  EXPECT_EQ(parse_json("7"), 7);
}

TEST(JsonReader, NamesThePlaceOfAMissingBracket) {
  EXPECT_EQ(mistake_in("{\n  \"a\": [1,\n  \"b\": 2\n}"),
            "line 4, column 1: '}' does not match the '[' at line 2, column 8");
  EXPECT_EQ(mistake_in("{\n  \"a\": {\n}"), "line 1, column 1: '{' is not closed");
  EXPECT_EQ(mistake_in("[]\n]"), "line 2, column 1: unexpected ']'");
}

TEST(JsonReader, NamesThePlaceOfOtherMistakes) {
  EXPECT_THAT(mistake_in("{\n\"a\" 1}"), StartsWith("line 2, column 5: syntax error"));
  EXPECT_THAT(mistake_in("{\"forwardPorts\": [8000-8010]}"), StartsWith("line 1, column 23: "));
  EXPECT_THAT(mistake_in(""), StartsWith("line 1, column 1: "));
  EXPECT_THAT(mistake_in("\"" + std::string(100'000, 'x')), StartsWith("line 1, column 1: "));
  EXPECT_THAT(mistake_in("[\n \"a\nb\"]"), StartsWith("line 2, column "));
  EXPECT_LT(mistake_in("\"" + std::string(100'000, 'x')).size(), 300U);
}

TEST(JsonReader, RefusesDepthSizeAndNumbersBeyondItsBounds) {
  EXPECT_THAT(mistake_in(std::string(500'000, '[')), HasSubstr("deep"));
  EXPECT_THAT(mistake_in("[" + std::string(kLargestJson, ' ') + "]"), HasSubstr("1024 KiB"));
  std::string many = "[{}";
  for (std::size_t i = 0; i < kMostJsonValues; ++i) many += ",{}";
  EXPECT_THAT(mistake_in(many + "]"), HasSubstr("values"));
  std::string members = "{";
  for (std::size_t i = 0; i <= kMostJsonValues; ++i) members += "\"a\":1,";
  EXPECT_THAT(mistake_in(members + "\"a\":1}"), HasSubstr("values"));
}

}  // namespace
}  // namespace portfwd
