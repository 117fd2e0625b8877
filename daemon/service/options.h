// Command line and environment of the daemon as values. Precedence: command line, environment,
// file, default.
#pragma once

#include <expected>
#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "config/config_file.h"

namespace portfwd {

struct Options {
  enum class Action { Run, CheckConfig, Help, Version };
  Action action = Action::Run;
  std::filesystem::path config;  ///< the main configuration file
  bool config_required = false;  ///< it was named, so it must exist
  std::filesystem::path state_folder;
  std::filesystem::path runtime_folder;  ///< empty: there is none
  /// The folder of the InstanceFile: without a runtime folder, a folder on a disk.
  [[nodiscard]] const std::filesystem::path& numbers_folder() const {
    return runtime_folder.empty() ? state_folder : runtime_folder;
  }
  bool system_bus = false;
  log::Level log_level = log::Level::Info;
};

/// @return the options, or a sentence that says what is wrong (exit status 2)
[[nodiscard]] Answer<Options> parse_options(int argc, char* const* argv);

/// Reads the configuration that the options name, at the start.
[[nodiscard]] std::expected<Settings, Mistakes> read_settings(const Options& options);
/// The same at any time. @param users resolves the names of users
[[nodiscard]] std::expected<Settings, Mistakes> read_settings(const Options& options,
                                                              UserNames& users);

/// Prints the text of --help or --version. @return whether there is nothing else to do
[[nodiscard]] bool print_information(const Options& options);

}  // namespace portfwd
