// Suggestions for mistyped names.
#include <gtest/gtest.h>

#include <array>

#include "base/text.h"

namespace portfwd {
namespace {

constexpr std::array<std::string_view, 4> kKnown{"linger", "hold", "drain", "container"};

TEST(Nearest, FindsAMistypedName) {
  EXPECT_EQ(nearest("lingre", kKnown), "linger");
  EXPECT_EQ(nearest("hodl", kKnown), "hold");
  EXPECT_EQ(nearest("kontayner", kKnown), "container");
}

TEST(Nearest, PrefersTheNameThatTheWordBegins) {
  EXPECT_EQ(nearest("cont", kKnown), "container");
  EXPECT_EQ(nearest("dr", kKnown), "drain");
}

TEST(Nearest, FindsNothingWhenNoNameIsClose) {
  EXPECT_EQ(nearest("zzzzzz", kKnown), "");
  EXPECT_EQ(nearest("c", kKnown), "");
  EXPECT_EQ(nearest("hold", {}), "");
}

}  // namespace
}  // namespace portfwd
