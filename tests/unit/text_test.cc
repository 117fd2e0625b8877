// Printable texts: control characters, invisible and bidi characters are replaced in any bytes.
#include "base/text.h"

#include <gtest/gtest.h>

#include <random>

namespace portfwd {
namespace {

std::string utf8(std::uint32_t code) {
  const auto byte = [](std::uint32_t value) { return static_cast<char>(value); };
  if (code < 0x80) return {byte(code)};
  if (code < 0x800) return {byte(0xC0 | code >> 6), byte(0x80 | (code & 0x3F))};
  if (code < 0x10000) {
    return {byte(0xE0 | code >> 12), byte(0x80 | (code >> 6 & 0x3F)), byte(0x80 | (code & 0x3F))};
  }
  return {byte(0xF0 | code >> 18), byte(0x80 | (code >> 12 & 0x3F)),
          byte(0x80 | (code >> 6 & 0x3F)), byte(0x80 | (code & 0x3F))};
}

/// A second implementation, written from the requirement instead of the code.
bool must_go(std::uint32_t c) {
  const auto within = [c](std::uint32_t a, std::uint32_t b) { return a <= c && c <= b; };
  return c < 0x20 || within(0x7F, 0x9F) || c == 0x061C || within(0x200B, 0x200F) ||
         within(0x2028, 0x202E) || within(0x2060, 0x2069) || c == 0xFEFF;
}

TEST(Printable, KeepsWhatIsSeen) {
  for (const char* text : {"", "web-1", "h\u00E9llo \u20AC", "\u4F60\u597D", "\U0001F600",
                           "\u05E9\u05DC\u05D5\u05DD", "e\u0301", "a b"}) {
    EXPECT_EQ(printable(text), text);
  }
}

TEST(Printable, ReplacesEveryCharacterThatIsNotSeen) {
  for (std::uint32_t code = 0; code <= 0x10FFFF; ++code) {
    if (code >= 0xD800 && code <= 0xDFFF) continue;
    const std::string one = utf8(code);
    const std::string shown = printable(one);
    ASSERT_TRUE(shown == one || shown == "?") << code;
    if (must_go(code)) {
      ASSERT_EQ(shown, "?") << code;
    }
  }
}

TEST(Printable, ReplacesEachByteThatIsNoCharacter) {
  EXPECT_EQ(printable("\xC3"), "?") << "cut short";
  EXPECT_EQ(printable("\xE2\x82"), "??") << "cut short";
  EXPECT_EQ(printable("\xC0\x80"), "??") << "overlong";
  EXPECT_EQ(printable("\xE0\x80\x80"), "???") << "overlong";
  EXPECT_EQ(printable("\xED\xA0\x80"), "???") << "a surrogate";
  EXPECT_EQ(printable("\xF4\x90\x80\x80"), "????") << "beyond U+10FFFF";
  EXPECT_EQ(printable(std::string_view("a\0b", 3)), "a?b");
}

TEST(Printable, CutsBetweenCharacters) {
  EXPECT_EQ(printable(std::string(100, 'x'), 64).size(), 64U);
  EXPECT_EQ(printable(std::string(63, 'x') + "\u00E9", 64).size(), 63U);
  EXPECT_EQ(printable("\x1B[31m", 2), "?[");
}

TEST(IsUtf8, TellsWhatABusTakes) {
  for (const char* text : {"", "web", "\u00e9t\u00e9", "\x1b\n", "\u202e", "\U0001F433"}) {
    EXPECT_TRUE(is_utf8(text)) << text;
  }
  for (const char* text : {"\xff", "a\xc3", "\xc0\x80", "\xed\xa0\x80", "\xef\xbf\xbf",
                           "\xef\xb7\x90", "\xf4\x90\x80\x80"}) {
    EXPECT_FALSE(is_utf8(text)) << text;
  }
}

TEST(Printable, IsItselfPrintableForAnyBytes) {
  std::mt19937 random(7);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes(random() % 24, '\0');
    for (char& c : bytes) c = static_cast<char>(random() % 4 == 0 ? 0x80 | random() : random());
    const std::string once = printable(bytes);
    ASSERT_EQ(printable(once), once);
    ASSERT_LE(once.size(), bytes.size());
  }
}

}  // namespace
}  // namespace portfwd
