// Text that a bus will take: a program chooses its own name, in any bytes, and one string that is
// not UTF-8 would make the whole message, and with it GetManagedObjects, fail.
#pragma once

#include <string>
#include <string_view>

namespace portfwd {

/// `text` with everything that D-Bus refuses replaced by U+FFFD: bytes that are not UTF-8, NUL,
/// surrogates, and the noncharacters that sd-bus refuses as well.
/// Source: D-Bus specification, "Valid string"; systemd, unichar_is_valid().
[[nodiscard]] std::string bus_text(std::string_view text);

}  // namespace portfwd
