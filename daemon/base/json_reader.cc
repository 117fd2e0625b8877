#include "base/json_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace portfwd {

namespace {

using Json = nlohmann::json;

/// Position in a text as editors count: "line 3, column 7".
std::string place_of(std::string_view text, std::size_t at) {
  const std::string_view before = text.substr(0, at);
  const auto line = std::ranges::count(before, '\n') + 1;
  const auto column = before.size() - (before.rfind('\n') + 1) + 1;  // npos + 1 is 0
  return fmt::format("line {}, column {}", line, column);
}

/// Index of the last character of the string that begins at `at`.
std::size_t end_of_string(std::string_view text, std::size_t at) {
  for (++at; at < text.size() && text[at] != '"'; ++at) {
    if (text[at] == '\\') ++at;
  }
  return at;
}

/// The linear pass: reads only brackets, commas and strings. @return "" when the text is within the
/// limits and its brackets match, else what is wrong
std::string check_shape(std::string_view text) {
  std::array<std::size_t, kDeepestJson> open{};  // where each bracket was opened
  std::size_t depth = 0;
  std::size_t values = 1;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      i = end_of_string(text, i);
    } else if (c == '[' || c == '{') {
      if (depth == kDeepestJson) {
        return fmt::format("{}: it is nested more than {} levels deep", place_of(text, i),
                           kDeepestJson);
      }
      open[depth++] = i;
      ++values;
    } else if (c == ']' || c == '}') {
      if (depth == 0) return fmt::format("{}: unexpected '{}'", place_of(text, i), c);
      const std::size_t opened = open[--depth];
      if ((c == ']') != (text[opened] == '[')) {
        return fmt::format("{}: '{}' does not match the '{}' at {}", place_of(text, i), c,
                           text[opened], place_of(text, opened));
      }
    } else if (c == ',') {
      ++values;
    }
    if (values > kMostJsonValues) return fmt::format("it has more than {} values", kMostJsonValues);
  }
  if (depth == 0) return "";
  const std::size_t opened = open[depth - 1];
  return fmt::format("{}: '{}' is not closed", place_of(text, opened), text[opened]);
}

/// SAX handler that builds nothing and stores the parser's error.
struct Complaint final : nlohmann::json_sax<Json> {
  std::size_t end = 0;   ///< bytes read
  std::string token;     ///< the last token, with control characters escaped
  std::string sentence;  ///< the error without its position

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(std::size_t position, const std::string& last_token,
                   const nlohmann::detail::exception& error) override {
    end = position;
    token = last_token;
    sentence = error.what();  // "... at line 1, column 5: syntax error ...; last read: 'x'; ..."
    const auto place = sentence.find(", column ");
    const auto colon = place == sentence.npos ? place : sentence.find(": ", place);
    if (colon != sentence.npos) sentence.erase(0, colon + 2);
    const auto quoted = sentence.find("; last read: '");
    if (quoted != sentence.npos) sentence.erase(quoted, sentence.rfind('\'') + 1 - quoted);
    return false;
  }
  /// Where the last token begins; near its end when that cannot be determined.
  [[nodiscard]] std::size_t place_in(std::string_view text) const {
    const std::size_t read = std::min(end, text.size());
    if (text.substr(0, read).ends_with(token)) return read - token.size();
    return read - std::min<std::size_t>(read, 1);
  }
};

}  // namespace

Answer<Json> read_json(std::string_view text, std::size_t largest) {
  if (text.size() > largest) {
    return reject(fmt::format("it has more than {} KiB", largest >> 10));
  }
  if (std::string misshapen = check_shape(text); !misshapen.empty()) {
    return reject(std::move(misshapen));
  }
  Json value = Json::parse(text, nullptr, false);  // a callback makes it quadratic in lists
  if (!value.is_discarded()) return value;
  Complaint complaint;
  (void)Json::sax_parse(text, &complaint);
  return reject(
      fmt::format("{}: {}", place_of(text, complaint.place_in(text)), complaint.sentence));
}

Json parse_json(std::string_view text) {
  return read_json(text).value_or(Json());
}

const Json& member(const Json& object, const char* key) {
  static const Json nothing;
  if (!object.is_object()) return nothing;
  const auto found = object.find(key);
  return found == object.end() ? nothing : *found;
}

std::string text_in(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

}  // namespace portfwd
