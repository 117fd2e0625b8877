#include "engine/json_slices.h"

#include <array>
#include <cstdint>

namespace portfwd {

namespace {

enum class Kind : std::uint8_t { Other, Quote, Open, Close, End };

/// What a character is to one who looks for the end of a value; End: it ends a number or a word.
constexpr auto kKinds = [] {
  std::array<Kind, 256> kinds{};
  for (const char c : {',', ' ', '\t', '\r', '\n'}) kinds[static_cast<unsigned char>(c)] = Kind::End;
  kinds['"'] = Kind::Quote;
  kinds['['] = kinds['{'] = Kind::Open;
  kinds[']'] = kinds['}'] = Kind::Close;
  return kinds;
}();

Kind kind_of(char c) {
  return kKinds[static_cast<unsigned char>(c)];
}

bool is_space(char c) {
  return c != ',' && kind_of(c) == Kind::End;
}

/// Index after the string that begins at `at`; the end of the text when it is not closed.
std::size_t after_string(std::string_view text, std::size_t at) {
  const char* const end = text.data() + text.size();
  for (const char* p = text.data() + at + 1; p < end; ++p) {
    if (*p == '"') return static_cast<std::size_t>(p + 1 - text.data());
    if (*p == '\\') ++p;
  }
  return text.size();
}

/// Index after the list or object that begins at `at`; npos when it does not end.
std::size_t after_brackets(std::string_view text, std::size_t at) {
  std::size_t depth = 0;
  while (at < text.size()) {
    switch (kind_of(text[at])) {
      case Kind::Quote:
        at = after_string(text, at);
        continue;
      case Kind::Open:
        ++depth;
        break;
      case Kind::Close:
        if (--depth == 0) return at + 1;
        break;
      default:
        break;
    }
    ++at;
  }
  return text.npos;
}

}  // namespace

JsonSlices::JsonSlices(std::string_view text) : text_(text) {
  skip_space();
  if (take('[')) {
    close_ = ']';
  } else if (take('{')) {
    close_ = '}';
  } else {
    over_ = true;
  }
}

std::optional<JsonSlice> JsonSlices::next() {
  if (over_) return std::nullopt;
  skip_space();
  if (take(close_)) return first_ ? end() : fail();  // after a comma
  JsonSlice slice;
  if (is_object()) {
    slice.key = take_string();
    skip_space();
    if (slice.key.data() == nullptr || !take(':')) return fail();
    skip_space();
  }
  slice.value = take_value();
  if (slice.value.empty()) return fail();
  first_ = false;
  skip_space();
  if (take(',')) return slice;
  if (!take(close_)) return fail();
  (void)end();
  return slice;
}

std::optional<JsonSlice> JsonSlices::end() {
  over_ = true;
  skip_space();
  complete_ = at_ == text_.size();
  return std::nullopt;
}

std::optional<JsonSlice> JsonSlices::fail() {
  over_ = true;
  return std::nullopt;
}

void JsonSlices::skip_space() {
  while (at_ < text_.size() && is_space(text_[at_])) ++at_;
}

bool JsonSlices::take(char c) {
  if (at_ >= text_.size() || text_[at_] != c) return false;
  ++at_;
  return true;
}

/// @return without its quotes; null when none begins here
std::string_view JsonSlices::take_string() {
  if (at_ >= text_.size() || text_[at_] != '"') return {};
  const std::size_t begin = at_;
  at_ = after_string(text_, at_);
  if (at_ - begin < 2) return {};
  return text_.substr(begin + 1, at_ - begin - 2);
}

/// @return "" when nothing begins here, or when it does not end
std::string_view JsonSlices::take_value() {
  const std::size_t begin = at_;
  if (at_ >= text_.size()) return {};
  const Kind kind = kind_of(text_[at_]);
  if (kind == Kind::Quote) {
    at_ = after_string(text_, at_);
  } else if (kind == Kind::Open) {
    at_ = after_brackets(text_, at_);
    if (at_ == text_.npos) return {};
  } else {
    while (at_ < text_.size() && kind_of(text_[at_]) == Kind::Other) ++at_;
  }
  return text_.substr(begin, at_ - begin);
}

}  // namespace portfwd
