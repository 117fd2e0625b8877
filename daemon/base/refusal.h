// Why a person's request was not carried out: a kind that the bus maps to an error name, and one
// sentence that says what to do about it. Made by the layer that decides, shown as it is.
#pragma once

#include <expected>
#include <string>

namespace portfwd {

struct Refusal {
  enum class Kind {
    NoSuchContainer,
    NoSuchForward,
    Ambiguous,
    PortInUse,
    Inaccessible,
    InvalidArgument,
    LimitExceeded,
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

}  // namespace portfwd
