// The forms of trouble: an expected outcome is an enum or optional; a failed operation is a Result
// with an Error; what a person wants and does not get, text that is rejected included, is an Answer
// with a Refusal; a bug is an assert. Nothing here throws.
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

/// Why a person's request was not carried out: a kind that the bus maps to an error name, and one
/// sentence that says what to do about it. Made by the layer that decides, shown as it is.
struct Refusal {
  enum class Kind {
    NoSuchContainer,
    NoSuchForward,
    Ambiguous,
    PortInUse,
    Inaccessible,
    InvalidArgument,
    LimitExceeded,
    AlreadyRunning,  ///< another daemon serves this bus
    Failed,
  };
  Kind kind;
  std::string text;  ///< one sentence, the remedy included; of a configuration one a line
};

template <class T>
using Answer = std::expected<T, Refusal>;

[[nodiscard]] inline std::unexpected<Refusal> refuse(Refusal::Kind kind, std::string text) {
  return std::unexpected(Refusal{kind, std::move(text)});
}

/// For text that is not as it must be: a parser's refusal. @param text what is wrong with it
[[nodiscard]] inline std::unexpected<Refusal> reject(std::string text) {
  return refuse(Refusal::Kind::InvalidArgument, std::move(text));
}

}  // namespace portfwd
