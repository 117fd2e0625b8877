// Mistakes in the configuration: the place of each, and what to do about it. All mistakes are
// reported, not only the first.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/toml.h"
#include "config/user_names.h"

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

/// The place where a part of a file begins.
[[nodiscard]] Place place_of(const toml::source_region& region);

// Collects the mistakes of a configuration while it is read, each at the place of its cause, and
// the places of keys, for contradictions that show only when everything is read. It accompanies
// every value that is read, so it also holds what resolves the names of users. Owned by the reader
// of the configuration. Keys are not known here.
class MistakeCollector {
 public:
  /// @param users borrowed
  explicit MistakeCollector(UserNames& users) : users_(users) {}

  [[nodiscard]] UserNames& users() const { return users_; }
  /// @param text may quote the file; unprintable characters become '?'
  void add(Place place, const std::string& text);
  void expect(const toml::node& value, std::string_view expected);
  /// @param what "key", "section" @param known names of which the nearest is suggested
  void unknown(const toml::key& name, std::string_view what,
               std::span<const std::string_view> known);

  /// Stores where `section` has this key; a later file overrides an earlier one.
  void record_place(std::string_view section, const toml::key& name);
  /// The stored place; empty when no file has that key.
  [[nodiscard]] Place place_of_key(std::string_view section, std::string_view key) const;

  /// Returns and removes the mistakes, sorted by file and line.
  [[nodiscard]] Mistakes release_mistakes();

 private:
  UserNames& users_;
  std::map<std::pair<std::string, std::string>, Place> places_;  ///< by section and key
  Mistakes mistakes_;
};

}  // namespace portfwd
