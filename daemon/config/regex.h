// A regular expression as a value: its text, and RE2's compiled form of it, shared by copies. RE2
// and not std::regex, since what is matched comes out of containers: its time is linear and its
// stack bounded whatever the text. Source: re2(3), https://github.com/google/re2/wiki/Syntax
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

/// What an expression may cost.
struct RegexLimits {
  std::size_t longest;  ///< bytes of its text
  std::size_t memory;   ///< bytes of its compiled form, with what matching adds to it
};
constexpr RegexLimits kUsersRegex{4096, 1UL << 20};
/// Of one that a container's metadata has. Compiling takes at most some 0.5 ms.
constexpr RegexLimits kContainersRegex{256, 64UL << 10};

class Regex {
 public:
  /// @return what is wrong with it, as RE2 says
  [[nodiscard]] static Answer<Regex> compile(std::string_view text,
                                             const RegexLimits& limits = kUsersRegex);

  /// Whether it matches any part of `subject`; bytes that are no UTF-8 match nothing.
  [[nodiscard]] bool matches(std::string_view subject) const;
  /// Steps per byte of a subject that matching takes at worst; some 5 ns each.
  [[nodiscard]] std::size_t cost() const;
  [[nodiscard]] const std::string& text() const;
  friend bool operator==(const Regex& a, const Regex& b) { return a.text() == b.text(); }

 private:
  explicit Regex(std::shared_ptr<const re2::RE2> compiled) : compiled_(std::move(compiled)) {}

  std::shared_ptr<const re2::RE2> compiled_;  ///< never null
};

}  // namespace portfwd
