// Text from untrusted sources: a container chooses its name, its labels and the names of its
// programs. A name is cleaned once, where it is read, so that it is the same everywhere. Text by
// which files and rules are found (labels, paths, command lines) is stored unchanged and cleaned
// where it leaves the daemon: at the bus and in the log.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace portfwd {

/// @return at most `most` bytes of valid UTF-8, cut between two characters. Each of these becomes
/// '?': a byte that is not UTF-8; a control character (C0, DEL, C1), which a terminal interprets; a
/// bidi control or invisible character, which makes one text look like another; a noncharacter,
/// which a bus rejects.
[[nodiscard]] std::string printable(std::string_view text,
                                    std::size_t most = std::string_view::npos);

/// Whether the text is UTF-8 without noncharacters. Other text cannot be sent over a bus.
[[nodiscard]] bool is_utf8(std::string_view text);

// Immutable string shared by its copies; compared by content. All listeners of one program have the
// same command line. A container may have thousands of listeners, and each is copied on its way to
// the bus.
class SharedText {
 public:
  SharedText() = default;
  SharedText(std::string text)
      : text_(text.empty() ? nullptr : std::make_shared<const std::string>(std::move(text))) {}
  SharedText(const char* text) : SharedText(std::string(text)) {}

  [[nodiscard]] const std::string& str() const {
    static const std::string kEmpty;
    return text_ == nullptr ? kEmpty : *text_;
  }
  operator const std::string&() const { return str(); }
  operator std::string_view() const { return str(); }
  [[nodiscard]] bool empty() const { return text_ == nullptr; }

  friend bool operator==(const SharedText& a, const SharedText& b) {
    return a.text_ == b.text_ || a.str() == b.str();
  }
  friend auto operator<=>(const SharedText& a, const SharedText& b) { return a.str() <=> b.str(); }

 private:
  std::shared_ptr<const std::string> text_;  ///< null: ""
};

/// FNV-1a of 64 bits: the same in every build and on every machine. Source: draft-eastlake-fnv.
[[nodiscard]] constexpr std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001b3;
  return hash;
}

/// Finds the known name that a mistyped word most likely means, for "did you mean" hints.
/// @return the element of `known` with the smallest edit distance to `typed`; an element that
/// begins with `typed` (at least two characters) has distance 0. Empty when none is within two
/// edits, or within a third of the length of `typed` if that is more.
[[nodiscard]] std::string_view nearest(std::string_view typed,
                                       std::span<const std::string_view> known);

}  // namespace portfwd
