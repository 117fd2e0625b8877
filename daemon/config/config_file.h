// Reads portfwd.toml(5): config.toml and config.d/*.toml become Settings, or a list of every
// mistake with its place. Nothing half-read takes effect.
#pragma once

#include <expected>
#include <filesystem>
#include <string_view>
#include <vector>

#include "config/mistakes.h"
#include "config/settings.h"
#include "config/user_names.h"

namespace portfwd {

// What no single value shows: keys that contradict each other, in one file or across several. The
// last step of reading a configuration.
/// In all files together. Each has two sockets or more while the daemon runs, and is compared with
/// all others whenever one is made.
inline constexpr std::size_t kMostDeclaredForwards = 1024;

/// @param settings all that the files say together, rules and forwards with their places
void find_contradictions(Complaints& complaints, const Settings& settings);

/// @param files in order; a later one overrides a key of an earlier one, and its rules and
/// forwards come after that one's. None: the defaults.
/// @param users tells who is meant by a name
[[nodiscard]] std::expected<Settings, Mistakes> read_config(
    const std::vector<std::filesystem::path>& files, UserNames& users);

/// The same for one text, for tests and fuzzing. @param name stands in the mistakes
[[nodiscard]] std::expected<Settings, Mistakes> parse_config(std::string_view text,
                                                             std::string_view name);

/// `config` itself where it exists, then the `*.toml` of the folder config.d beside it by name,
/// but no hidden ones.
/// @param required a `config` that is missing is listed all the same, so that reading it fails; so
/// is a config.d that cannot be listed, and a `config` whose folder is no folder
[[nodiscard]] std::vector<std::filesystem::path> config_files(const std::filesystem::path& config,
                                                              bool required);

}  // namespace portfwd
