// The command line of portfwdctl: a table of commands and options. The parser, the help and the
// shell completions are derived from it, and tests/docs/reference compares the man page with the
// help. What the commands do is in commands.h.
//
// getopt_long() is not used: it permutes operands or stops at the first one, supports one level of
// options, and its messages name neither the command nor a remedy. CLI11 2.1 is not used: it
// reports a mistyped command as "A subcommand is required", does not suggest similar names, and
// would increase the size of portfwdctl by half.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace portfwd::ctl {

/// What a shell completes as the value of an option.
enum class Offer { Nothing, Words, Files, Processes };

struct Option {
  std::string_view name;   ///< with the two dashes
  std::string_view value;  ///< placeholder of the value in the help; empty for a switch
  std::string_view help;   ///< begins with a verb, in lower case, without a full stop
  Offer offer = Offer::Nothing;
  std::string_view words;     ///< for Offer::Words: separated by blanks
  std::string_view excludes;  ///< an option that cannot be combined with this one
};

struct Command {
  std::string_view name;
  std::string_view operands;  ///< as the help shows them
  std::size_t min_operands;
  std::size_t max_operands;
  std::string_view help;
  std::span<const Option> options;
};

[[nodiscard]] std::span<const Command> commands();
[[nodiscard]] std::span<const Option> global_options();

struct CommandLine {
  const Command* command = nullptr;                         ///< null only with --help or --version
  std::map<std::string, std::string, std::less<>> options;  ///< a switch has an empty value
  std::vector<std::string> operands;

  [[nodiscard]] bool has(std::string_view option) const { return options.contains(option); }
  [[nodiscard]] std::optional<std::string> value(std::string_view option) const;
  [[nodiscard]] std::string value_or_empty(std::string_view option) const {
    return value(option).value_or("");
  }
};

/// Parses the arguments. Global options may be anywhere, `--name=value` equals `--name value`, and
/// `--` ends the options. Throws Failure with Status::Usage.
[[nodiscard]] CommandLine parse_command_line(std::span<const std::string_view> arguments);

/// Parses the value of --timeout: seconds, with an optional fraction, at most one day. Throws
/// Failure with Status::Usage.
[[nodiscard]] std::chrono::microseconds parse_timeout(std::string_view seconds);

[[nodiscard]] std::string help();
[[nodiscard]] std::string help(const Command& command);

}  // namespace portfwd::ctl
