// The forms of failure. An expected outcome is an enum or optional. A failed operation is a Result
// with an Error. A request of the user that is not carried out, and text that is rejected, is an
// Answer with a Refusal. A bug is an assert. Nothing here throws.
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
    return std::string(op) + ": " + ::strerror(code);  // the daemon has one thread
  }
};

template <class T>
using Result = std::expected<T, Error>;

/// For `return fail("socket");` directly after the call that set errno.
[[nodiscard]] inline std::unexpected<Error> fail(std::string_view op, int code = errno) {
  return std::unexpected(Error{code, op});
}

/// Why a request of the user was not carried out: a kind, which the bus maps to an error name, and
/// a sentence with the cause and the remedy. The layer that decides creates it; it is shown
/// unchanged.
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
  std::string text;  ///< one sentence; for a configuration, one line for each mistake
};

template <class T>
using Answer = std::expected<T, Refusal>;

[[nodiscard]] inline std::unexpected<Refusal> refuse(Refusal::Kind kind, std::string text) {
  return std::unexpected(Refusal{kind, std::move(text)});
}

/// Refuses text that a parser cannot accept. @param text the mistake in it
[[nodiscard]] inline std::unexpected<Refusal> reject(std::string text) {
  return refuse(Refusal::Kind::InvalidArgument, std::move(text));
}

}  // namespace portfwd
