// Reads portfwd.toml(5): config.toml and config.d/*.toml become Settings, or a list of every
// mistake with its place. Nothing half-read takes effect. The only part that knows TOML.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "config/settings.h"

namespace portfwd {

struct Mistake {
  std::string file;
  std::uint32_t line = 0;    ///< from 1; 0 when the file as a whole is meant
  std::uint32_t column = 0;  ///< from 1
  std::string text;          ///< what is wrong and what was expected

  [[nodiscard]] std::string message() const;  ///< "FILE:LINE:COLUMN: TEXT"
};
using Mistakes = std::vector<Mistake>;

/// @param files in order; a later one overrides a key of an earlier one. None: the defaults.
[[nodiscard]] std::expected<Settings, Mistakes> read_config(
    const std::vector<std::filesystem::path>& files);

/// The same for one text, for tests and fuzzing. @param name stands in the mistakes
[[nodiscard]] std::expected<Settings, Mistakes> parse_config(std::string_view text,
                                                             std::string_view name);

/// `config` itself where it exists, then the `*.toml` of the folder config.d beside it by name.
/// @param required a `config` that is missing is listed all the same, so that reading it fails
[[nodiscard]] std::vector<std::filesystem::path> config_files(const std::filesystem::path& config,
                                                              bool required);

}  // namespace portfwd
