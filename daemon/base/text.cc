#include "base/text.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace portfwd {

namespace {

struct Range {
  std::uint32_t first;
  std::uint32_t last;
};

/// Source: Unicode 15, categories Cc, Cf, Zl and Zp, except for the number signs of some scripts in
/// Cf, which are visible.
constexpr std::array kHidden{
    Range{0x00, 0x1F},     Range{0x7F, 0x9F},     Range{0xAD, 0xAD},       Range{0x061C, 0x061C},
    Range{0x180E, 0x180E}, Range{0x200B, 0x200F}, Range{0x2028, 0x202E},   Range{0x2060, 0x206F},
    Range{0xFEFF, 0xFEFF}, Range{0xFFF9, 0xFFFB}, Range{0xE0000, 0xE007F},
};

/// Source: Unicode 15, 23.7.
bool is_noncharacter(std::uint32_t code) {
  return (code & 0xFFFE) == 0xFFFE || (0xFDD0 <= code && code <= 0xFDEF);
}

bool is_shown(std::uint32_t code) {
  if (is_noncharacter(code)) return false;
  return std::ranges::none_of(kHidden,
                              [code](const Range& r) { return r.first <= code && code <= r.last; });
}

/// Length of the sequence that begins with this byte; 0 when no sequence does.
std::size_t length_by_first_byte(unsigned char first) {
  if (first < 0x80) return 1;
  if (first < 0xC2) return 0;  // a continuation byte, or an overlong form
  if (first < 0xE0) return 2;
  if (first < 0xF0) return 3;
  return first < 0xF5 ? 4 : 0;
}

struct Character {
  std::size_t length = 1;
  bool valid = false;  ///< valid UTF-8, and not a noncharacter
  bool shown = false;
};

/// Decodes the first character. @param text must not be empty. Source: RFC 3629.
Character first_character(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const std::size_t length = length_by_first_byte(lead);
  if (length == 0 || length > text.size()) return {};
  std::uint32_t code = length == 1 ? lead : lead & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte & 0xC0) != 0x80) return {};
    code = code << 6 | (byte & 0x3FU);
  }
  constexpr std::array<std::uint32_t, 5> kSmallest{0, 0, 0x80, 0x800, 0x10000};  // else overlong
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < kSmallest[length] || code > 0x10FFFF || surrogate) return {};
  return {length, !is_noncharacter(code), is_shown(code)};
}

}  // namespace

std::string printable(std::string_view text, std::size_t most) {
  std::string out;
  out.reserve(std::min(text.size(), most));
  while (!text.empty()) {
    const Character next = first_character(text);
    const std::string_view piece = next.shown ? text.substr(0, next.length) : "?";
    if (out.size() + piece.size() > most) break;
    out += piece;
    text.remove_prefix(next.length);
  }
  return out;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const Character next = first_character(text);
    if (!next.valid) return false;
    text.remove_prefix(next.length);
  }
  return true;
}

namespace {

/// Levenshtein distance, one row at a time.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string_view nearest(std::string_view typed, std::span<const std::string_view> known) {
  std::string_view best;
  std::size_t limit = std::max<std::size_t>(2, typed.size() / 3) + 1;  // farther is a guess
  for (const std::string_view name : known) {
    assert(!name.empty());
    const bool is_beginning = typed.size() > 1 && name.starts_with(typed);
    const std::size_t distance = is_beginning ? 0 : edit_distance(typed, name);
    if (distance < limit) {
      limit = distance;
      best = name;
    }
  }
  return best;
}

}  // namespace portfwd
