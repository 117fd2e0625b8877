// JSON with comments, and texts that look like comments.
#include <gtest/gtest.h>

#include "devcontainer/port_metadata.h"

namespace portfwd::devcontainer {
namespace {

TEST(Jsonc, CommentsAreBlankedAndPositionsStay) {
  EXPECT_EQ(to_plain_json("{ // one\n \"a\": /* two\n */ 1 }"),
            "{       \n \"a\":       \n    1 }");
}

TEST(Jsonc, CommasBeforeAClosingBracketGo) {
  EXPECT_EQ(to_plain_json("[1, 2, ]"), "[1, 2  ]");
  EXPECT_EQ(to_plain_json("{\"a\": [1,], // x\n}"), "{\"a\": [1 ]      \n}");
  EXPECT_EQ(to_plain_json("[1, /* last */ ]"), "[1             ]");
}

TEST(Jsonc, WhatIsInStringsStays) {
  for (const char* text : {R"("// no comment")", R"("/* none */")", R"(["a,]", "b,}"])",
                           R"("\"// still in it")", R"("\\")", R"({"http://x": 1})"}) {
    EXPECT_EQ(to_plain_json(text), text);
  }
}

TEST(Jsonc, WhatIsNotClosedEndsWithTheText) {
  EXPECT_EQ(to_plain_json("1 /* for ever"), "1            ");
  EXPECT_EQ(to_plain_json("1 // for ever"), "1            ");
  EXPECT_EQ(to_plain_json("\"for ever"), "\"for ever");
  EXPECT_EQ(to_plain_json("\"\\"), "\"\\");
  EXPECT_EQ(to_plain_json("/"), "/");
  EXPECT_EQ(to_plain_json("/*/"), "   ");
  EXPECT_EQ(to_plain_json(","), ",");
  EXPECT_EQ(to_plain_json(""), "");
}

}  // namespace
}  // namespace portfwd::devcontainer
