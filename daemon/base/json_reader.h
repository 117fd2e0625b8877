// Parser for JSON from others: engines, images, repositories, files. Its work is bounded in
// advance: one linear pass counts bytes, depth and values, and a text beyond a limit is rejected
// before anything is built. nlohmann's library throws when a value is read as the wrong type, so
// every value's type must be checked first. Must be included by .cc files only.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"

namespace portfwd {

/// A document at these limits takes about 15 ms.
constexpr std::size_t kLargestJson = 1UL << 20;     ///< bytes
constexpr std::size_t kDeepestJson = 64;            ///< lists and objects inside each other
constexpr std::size_t kMostJsonValues = 1UL << 16;  ///< of all kinds, lists and objects included

/// @return the value, or one sentence that says why there is none, such as "line 3, column 7: '['
/// is not closed". The sentence may quote the text.
[[nodiscard]] Answer<nlohmann::json> read_json(std::string_view text,
                                               std::size_t largest = kLargestJson);

/// @return the value; null when read_json() rejects the text
[[nodiscard]] nlohmann::json parse_json(std::string_view text);

/// @return the member, which lives as long as `object`; null when `object` is not an object or has
/// no such key
[[nodiscard]] const nlohmann::json& member(const nlohmann::json& object, const char* key);

/// @return the string at `key`; "" when it is missing or not a string
[[nodiscard]] std::string text_in(const nlohmann::json& object, const char* key);

}  // namespace portfwd
