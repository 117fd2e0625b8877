#include "devcontainer/jsonc.h"

#include <algorithm>

namespace portfwd::devcontainer {

namespace {

/// Index after the string that begins at `at`; the end of the text when it is not closed.
std::size_t after_string(std::string_view text, std::size_t at) {
  for (++at; at < text.size() && text[at] != '"'; ++at) {
    if (text[at] == '\\') ++at;
  }
  return std::min(at + 1, text.size());
}

/// Index after the comment that begins at `at`; `at` when none does.
std::size_t after_comment(std::string_view text, std::size_t at) {
  const std::string_view rest = text.substr(at);
  if (rest.starts_with("//")) return std::min(text.find('\n', at), text.size());
  if (!rest.starts_with("/*")) return at;
  const std::size_t end = text.find("*/", at + 2);
  return end == text.npos ? text.size() : end + 2;
}

void blank(std::string& text, std::size_t first, std::size_t last) {
  for (std::size_t i = first; i < last; ++i) {
    if (text[i] != '\n') text[i] = ' ';
  }
}

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

}  // namespace

std::string to_plain_json(std::string_view text) {
  std::string plain(text);
  std::size_t comma = text.npos;  // the last thing seen, if it is one
  for (std::size_t i = 0; i < text.size();) {
    if (const std::size_t end = after_comment(text, i); end != i) {
      blank(plain, i, end);
      i = end;
      continue;
    }
    const char c = text[i];
    if ((c == '}' || c == ']') && comma != text.npos) plain[comma] = ' ';
    if (!is_space(c)) comma = c == ',' ? i : text.npos;
    i = c == '"' ? after_string(text, i) : i + 1;
  }
  return plain;
}

}  // namespace portfwd::devcontainer
