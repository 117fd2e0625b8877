// Strings and ids as they are sent to the bus.
#include <gtest/gtest.h>

#include "dbus/message.h"
#include "dbus/objects.h"

namespace portfwd {
namespace {

const std::string kBad = "?";

TEST(BusTextTest, WhatIsUtf8StaysAsItIs) {
  for (const std::string text : {"", "nginx", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\xb3"}) {
    EXPECT_EQ(bus_text(text), text);
  }
}

TEST(BusTextTest, EachByteThatIsNoCharacterIsReplaced) {
  EXPECT_EQ(bus_text("a\xff"
                     "b"),
            "a" + kBad + "b");
  EXPECT_EQ(bus_text("\xc3"), kBad) << "cut short";
  EXPECT_EQ(bus_text("\xe2\x82"), kBad + kBad) << "cut short";
  EXPECT_EQ(bus_text("\xc0\x80"), kBad + kBad) << "overlong";
  EXPECT_EQ(bus_text("\xe0\x80\x80"), kBad + kBad + kBad) << "overlong";
  EXPECT_EQ(bus_text("\xed\xa0\x80"), kBad + kBad + kBad) << "a surrogate";
  EXPECT_EQ(bus_text("\xf4\x90\x80\x80"), kBad + kBad + kBad + kBad) << "beyond U+10FFFF";
  EXPECT_EQ(bus_text("\xef\xbf\xbe"), kBad) << "a noncharacter";
  EXPECT_EQ(bus_text(std::string_view("a\0b", 3)), "a" + kBad + "b");
}

TEST(BusTextTest, AnIdBecomesAPathAndComesBack) {
  EXPECT_EQ(forward_path("f-1_x"), "/org/portfwd1/forward/f_2d1_5fx");
  EXPECT_EQ(container_path("9abc"), "/org/portfwd1/container/_39abc");
  EXPECT_EQ(container_path(""), "/");
  EXPECT_EQ(id_of_path(kForwardPrefix, "/org/portfwd1/forward/f_2d1_5fx"), "f-1_x");
  EXPECT_FALSE(id_of_path(kForwardPrefix, "/org/portfwd1/container/f"));
  EXPECT_FALSE(id_of_path(kForwardPrefix, "/org/portfwd1/forward"));
  EXPECT_FALSE(id_of_path(kForwardPrefix, "/org/portfwd1/forward/a/b"));
  EXPECT_FALSE(id_of_path(kForwardPrefix, "/"));
}

}  // namespace
}  // namespace portfwd
