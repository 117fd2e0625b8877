// Text that somebody else made up: a container chooses its name, its labels, its programs' names.
// A name is cleaned once, where it is learned, so that it is the same to all. What is kept as it
// is, since files and rules are found by it (labels, paths, command lines), is cleaned where it
// leaves the daemon: the bus and the log.
#pragma once

#include <compare>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace portfwd {

/// At most `most` bytes of valid UTF-8, cut between two characters. Each of these becomes '?': a
/// byte that is no UTF-8; a control character (C0, DEL, C1), which a terminal obeys; a bidi control
/// and an invisible character, which make a text look like another one; a noncharacter, which a bus
/// refuses.
[[nodiscard]] std::string printable(std::string_view text,
                                    std::size_t most = std::string_view::npos);

/// Whether it is UTF-8 without noncharacters: other text cannot be sent over a bus.
[[nodiscard]] bool is_utf8(std::string_view text);

// A text that its copies share. The command line of one program is that of each of its listeners,
// of which a container may have thousands, and each is copied on its way to the bus.
/// Immutable; compared by its content.
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

// The known name that a mistyped word most likely meant, for "did you mean" hints.
/// @return the element of `known` with the smallest edit distance to `typed`; one that `typed` is
/// the
///   beginning of (two characters at least) wins. Empty when none is within two edits, or a third
///   of the length of `typed` if that is more.
[[nodiscard]] std::string_view nearest(std::string_view typed,
                                       std::span<const std::string_view> known);

}  // namespace portfwd
