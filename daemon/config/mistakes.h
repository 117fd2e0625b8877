// Mistakes in the configuration: where each is, and what to do about it. All of a file are
// reported, not the first alone.
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

// What is wrong with a configuration, and where. Values; nothing here reads a file.
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

// Collects the mistakes of a configuration while it is read, each at the place of what caused it,
// and notes where keys stood, for contradictions that only show when all is read. It goes with
// every value that is read, and so has what tells users by their names. Owned by whoever reads; it
// knows no key.
[[nodiscard]] Place place_of(const toml::source_region& region);

class Complaints {
 public:
  /// @param users borrowed
  explicit Complaints(UserNames& users) : users_(users) {}

  [[nodiscard]] UserNames& users() const { return users_; }
  /// @param text may quote the file: what is no printable character in it becomes '?'
  void add(Place place, const std::string& text);
  void expect(const toml::node& value, std::string_view expected);
  /// @param what "key", "section" @param known of which the nearest is proposed
  void unknown(const toml::key& name, std::string_view what,
               std::span<const std::string_view> known);

  /// Where `section` has this key; a later file's overrides an earlier one's.
  void note(std::string_view section, const toml::key& name);
  /// Nothing in it when no file has that key.
  [[nodiscard]] Place noted(std::string_view section, std::string_view key) const;

  /// Those since the last call, by file and line.
  [[nodiscard]] Mistakes take();

 private:
  UserNames& users_;
  std::map<std::pair<std::string, std::string>, Place> places_;  ///< by section and key
  Mistakes mistakes_;
};

}  // namespace portfwd
