// Text that a bus will take: one string that is not UTF-8 would make the whole message, and with it
// GetManagedObjects, fail. Texts are cleaned where they are learned; this is the last gate for what
// was made of them.
#pragma once

#include <string>
#include <string_view>

#include "base/text.h"

namespace portfwd {

/// printable(), which takes away all that D-Bus refuses: bytes that are not UTF-8, NUL, surrogates,
/// and the noncharacters that sd-bus refuses as well.
/// Source: D-Bus specification, "Valid string"; systemd, unichar_is_valid().
[[nodiscard]] inline std::string bus_text(std::string_view text) {
  return printable(text);
}

}  // namespace portfwd
