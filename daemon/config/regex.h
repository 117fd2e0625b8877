// A regular expression as a value: its text and RE2's compiled form of it, shared by copies. RE2
// and not std::regex, since containers choose the text that is matched: RE2's time is linear and
// its stack bounded for any text. Source: re2(3), https://github.com/google/re2/wiki/Syntax
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"

namespace re2 {
class RE2;
}

namespace portfwd {

/// Limits on the cost of an expression.
struct RegexLimits {
  std::size_t longest;  ///< bytes of its text
  std::size_t memory;   ///< bytes of its compiled form, including what matching adds
};
constexpr RegexLimits kUsersRegex{4096, 1UL << 20};
/// For an expression in a container's metadata. Compiling takes at most about 0.5 ms.
constexpr RegexLimits kContainersRegex{256, 64UL << 10};

class Regex {
 public:
  /// @return the expression, or what is wrong with it, as RE2 words it
  [[nodiscard]] static Answer<Regex> compile(std::string_view text,
                                             const RegexLimits& limits = kUsersRegex);

  /// Whether it matches any part of `subject`; bytes that are not UTF-8 match nothing.
  [[nodiscard]] bool matches(std::string_view subject) const;
  /// Worst-case steps per byte of a subject; a step takes about 5 ns.
  [[nodiscard]] std::size_t cost() const;
  [[nodiscard]] const std::string& text() const;
  friend bool operator==(const Regex& a, const Regex& b) { return a.text() == b.text(); }

 private:
  explicit Regex(std::shared_ptr<const re2::RE2> compiled) : compiled_(std::move(compiled)) {}

  std::shared_ptr<const re2::RE2> compiled_;  ///< never null
};

}  // namespace portfwd
