// Mistakes in the configuration: the place of each, and what to do about it. All mistakes are
// reported, not only the first.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace portfwd {

/// A place in a file, as editors count.
struct Place {
  std::string file;
  std::uint32_t line = 0;    ///< from 1; 0 when the file as a whole is meant
  std::uint32_t column = 0;  ///< from 1
  friend bool operator==(const Place&, const Place&) = default;

  [[nodiscard]] std::string text() const;  ///< "FILE:LINE"
};

struct Mistake {
  Place place;
  std::string text;  ///< what is wrong and what was expected

  [[nodiscard]] std::string message() const;  ///< "FILE:LINE:COLUMN: TEXT"
};
using Mistakes = std::vector<Mistake>;

/// The messages, one a line, without a newline at the end.
[[nodiscard]] std::string text_of(const Mistakes& mistakes);

}  // namespace portfwd
