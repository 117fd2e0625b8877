// The three forms of trouble: an expected outcome is an enum or optional, a failed operation is a
// Result with an Error, a bug is an assert. Nothing here throws.
#pragma once

#include <cerrno>
#include <cstring>
#include <expected>
#include <string>
#include <string_view>

namespace portfwd {

/// A failed operation. Context (endpoint, pid) is added by the layer that knows it.
struct Error {
  int code = 0;         ///< positive errno
  std::string_view op;  ///< static name of the operation, such as "setns"

  [[nodiscard]] std::string text() const {
    return std::string(op) + ": " + ::strerror(code);  // one thread: strerror's buffer is ours
  }
};

template <class T>
using Result = std::expected<T, Error>;

/// `return fail("socket");` right after the call that set errno.
[[nodiscard]] inline std::unexpected<Error> fail(std::string_view op, int code = errno) {
  return std::unexpected(Error{code, op});
}

}  // namespace portfwd
