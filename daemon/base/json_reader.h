// The one parser of JSON that others wrote: engines, images, repositories, files. Its work is
// bounded before it is done: one linear pass counts bytes, depth and values, and what is beyond a
// bound is refused before anything is built. nlohmann's library throws when it is asked for a type
// that is not there, so each value is asked for its type first. Included by .cc files alone.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"

namespace portfwd {

/// At these bounds a document takes some 15 ms.
constexpr std::size_t kLargestJson = 1UL << 20;     ///< bytes
constexpr std::size_t kDeepestJson = 64;            ///< lists and objects within each other
constexpr std::size_t kMostJsonValues = 1UL << 16;  ///< of all kinds, lists and objects included

/// @return the value, or why there is none, such as "line 3, column 7: '[' is not closed": one
/// sentence that may quote the text
[[nodiscard]] Answer<nlohmann::json> read_json(std::string_view text,
                                               std::size_t largest = kLargestJson);

/// @return the value; null if there is none
[[nodiscard]] nlohmann::json parse_json(std::string_view text);

/// @return null unless `object` is one and has it; lives as long as `object`
[[nodiscard]] const nlohmann::json& member(const nlohmann::json& object, const char* key);

/// @return "" unless it is there and a text
[[nodiscard]] std::string text_in(const nlohmann::json& object, const char* key);

}  // namespace portfwd
