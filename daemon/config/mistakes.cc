#include "config/mistakes.h"

#include <fmt/format.h>

namespace portfwd {

std::string Place::text() const {
  return line == 0 ? file : fmt::format("{}:{}", file, line);
}

std::string Mistake::message() const {
  if (place.line == 0) return fmt::format("{}: {}", place.file, text);
  return fmt::format("{}:{}:{}: {}", place.file, place.line, place.column, text);
}

std::string text_of(const Mistakes& mistakes) {
  std::string out;
  for (const Mistake& mistake : mistakes) {
    if (!out.empty()) out += '\n';
    out += mistake.message();
  }
  return out;
}

}  // namespace portfwd
