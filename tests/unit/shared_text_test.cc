// SharedText: copies share one string.
#include <gtest/gtest.h>

#include "base/text.h"

namespace portfwd {
namespace {

TEST(SharedText, SharesOneStringAmongItsCopies) {
  const SharedText text = std::string("/usr/bin/server --port 8080 and more than fits in place");
  const SharedText copy = text;
  EXPECT_EQ(&copy.str(), &text.str());
}

TEST(SharedText, IsComparedByItsContent) {
  EXPECT_EQ(SharedText("a"), SharedText(std::string("a")));
  EXPECT_LT(SharedText("a"), SharedText("b"));
  EXPECT_EQ(SharedText(), SharedText(""));
  EXPECT_TRUE(SharedText("").empty());
  EXPECT_EQ(SharedText().str(), "");
}

}  // namespace
}  // namespace portfwd
