// The known name that a mistyped word most likely meant, for "did you mean" hints.
#pragma once

#include <span>
#include <string_view>

namespace portfwd {

/// @return the element of `known` with the smallest edit distance to `typed`; one that `typed` is
/// the
///   beginning of (two characters at least) wins. Empty when none is within two edits, or a third
///   of the length of `typed` if that is more.
[[nodiscard]] std::string_view nearest(std::string_view typed,
                                       std::span<const std::string_view> known);

}  // namespace portfwd
