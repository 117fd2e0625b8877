#include "dbus/bus_text.h"

#include <cstddef>
#include <cstdint>

namespace portfwd {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

std::size_t sequence_length(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead < 0xe0) return 2;
  if (lead >= 0xe0 && lead < 0xf0) return 3;
  if (lead >= 0xf0 && lead < 0xf5) return 4;
  return 0;
}

bool acceptable(std::uint32_t code, std::size_t length) {
  constexpr std::uint32_t kSmallest[] = {0, 1, 0x80, 0x800, 0x10000};  // shorter forms are overlong
  if (code < kSmallest[length] || code > 0x10ffff) return false;
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  const bool noncharacter = (code >= 0xfdd0 && code <= 0xfdef) || (code & 0xfffe) == 0xfffe;
  return !surrogate && !noncharacter;
}

/// @return the length of the character that `text` begins with; 0 when it begins with none.
std::size_t character_length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const std::size_t length = sequence_length(lead);
  if (length == 0 || length > text.size()) return 0;
  std::uint32_t code = length == 1 ? lead : lead & (0x7fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte & 0x3f);
  }
  return acceptable(code, length) ? length : 0;
}

}  // namespace

std::string bus_text(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    out += length > 0 ? text.substr(0, length) : kReplacement;
    text.remove_prefix(length > 0 ? length : 1);
  }
  return out;
}

}  // namespace portfwd
