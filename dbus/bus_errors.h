// The only way out of an adaptor for trouble: an sdbus::Error with a name of org.portfwd1(5). Any
// other exception would unwind through libsystemd, and the caller would wait for its timeout.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "dbus/sdbus_compat.h"

namespace portfwd {

// Text that a bus will take: one string that is not UTF-8 would make the whole message, and with it
// GetManagedObjects, fail. Texts are cleaned where they are learned; this is the last gate for what
// was made of them.
/// printable(), which takes away all that D-Bus refuses: bytes that are not UTF-8, NUL, surrogates,
/// and the noncharacters that sd-bus refuses as well.
/// Source: D-Bus specification, "Valid string"; systemd, unichar_is_valid().
[[nodiscard]] inline std::string bus_text(std::string_view text) {
  return printable(text);
}

[[nodiscard]] std::string_view error_name(Refusal::Kind kind);

[[noreturn]] void throw_refusal(const Refusal& refusal);
[[noreturn]] void throw_invalid(std::string text);

/// The value of an answer, or its refusal as a D-Bus error.
template <class T>
T value_or_throw(Answer<T> answer) {
  if (!answer) throw_refusal(answer.error());
  if constexpr (!std::is_void_v<T>) return std::move(*answer);
}

/// Runs the body of an adaptor's method or getter.
template <class Body>
auto guarded(Body&& body) {
  try {
    return body();
  } catch (const sdbus::Error&) {
    throw;
  } catch (const std::exception& e) {
    throw_refusal({Refusal::Kind::Failed, e.what()});
  }
}

}  // namespace portfwd
