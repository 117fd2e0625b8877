// Reader of portfwd.toml(5): turns config.toml and config.d/*.toml into Settings, or into a list of
// all mistakes with their places. A configuration with a mistake has no effect.
#pragma once

#include <expected>
#include <filesystem>
#include <string_view>
#include <vector>

#include "config/mistakes.h"
#include "config/settings.h"
#include "config/user_names.h"

namespace portfwd {

class MistakeCollector;  // config/value_readers.h, which includes toml++

/// Limit on the [[forward]] tables of all files together. Each has two sockets or more while the
/// daemon runs, and is compared with all others whenever one is made.
inline constexpr std::size_t kMostDeclaredForwards = 1024;

/// Finds keys that contradict each other, in one file or across several: the last step of reading a
/// configuration. @param settings of all files together, with the places of rules and forwards
void find_contradictions(MistakeCollector& complaints, const Settings& settings);

/// @param files in order: a later file overrides the keys of an earlier one, and its rules and
/// forwards come after that one's. Empty: the defaults.
/// @param users resolves the names of users
[[nodiscard]] std::expected<Settings, Mistakes> read_config(
    const std::vector<std::filesystem::path>& files, UserNames& users);

/// The same for one text, for tests and fuzzing. @param name the file's name in the mistakes
[[nodiscard]] std::expected<Settings, Mistakes> parse_config(std::string_view text,
                                                             std::string_view name);

/// Lists `config` itself where it exists, then the `*.toml` of the folder config.d beside it, by
/// name and without hidden files. A config.d that cannot be listed, and a `config` whose folder is
/// not a folder, are listed too, so that reading them fails.
/// @param required whether a missing `config` is listed, so that reading it fails
[[nodiscard]] std::vector<std::filesystem::path> config_files(const std::filesystem::path& config,
                                                              bool required);

}  // namespace portfwd
