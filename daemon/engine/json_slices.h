// The parts of a JSON list or object as texts, found by brackets and strings alone: nothing is
// built and nothing inside a part is looked at, so of an answer of megabytes only what matters need
// be parsed. It is for texts that are too large for base/json_reader.h. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace portfwd {

struct JsonSlice {
  std::string_view key;    ///< of a member, between its quotes as written; "" in a list
  std::string_view value;  ///< as written, not checked
};

class JsonSlices {
 public:
  /// @param text outlives this and what it gives
  explicit JsonSlices(std::string_view text);

  [[nodiscard]] bool is_list() const { return close_ == ']'; }
  [[nodiscard]] bool is_object() const { return close_ == '}'; }
  /// @return nothing at the end, and where it makes no sense
  std::optional<JsonSlice> next();
  /// Whether it was read to its closing bracket, and nothing follows.
  [[nodiscard]] bool complete() const { return complete_; }

 private:
  void skip_space();
  [[nodiscard]] bool take(char c);
  [[nodiscard]] std::string_view take_string();
  [[nodiscard]] std::string_view take_value();
  std::optional<JsonSlice> end();
  std::optional<JsonSlice> fail();

  std::string_view text_;
  std::size_t at_ = 0;
  char close_ = '\0';  ///< of neither a list nor an object: none
  bool first_ = true;
  bool over_ = false;
  bool complete_ = false;
};

}  // namespace portfwd
