// The command line of portfwdctl: one table of commands and options, from which the parser, the
// help and the shell completions are made, and with which tests/docs/reference compares the man
// page. It does not know what the commands do.
//
// Not getopt_long: it permutes or stops at the first operand, knows one level of options, and its
// messages name neither the command nor a remedy. Not CLI11 2.1: it answers a mistyped command with
// "A subcommand is required", knows nothing of similar names, and would add half to the size of
// portfwdctl.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace portfwd::ctl {

/// What a shell offers as the value of an option.
enum class Offer { Nothing, Words, Files, Processes };

struct Option {
  std::string_view name;   ///< with its two dashes
  std::string_view value;  ///< placeholder of its value in the help; empty for a switch
  std::string_view help;   ///< begins with a verb or a noun, without a full stop
  Offer offer = Offer::Nothing;
  std::string_view words;     ///< with Offer::Words: separated by blanks
  std::string_view excludes;  ///< the option that cannot be given beside this one
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

/// Global options may stand anywhere, `--name=value` is `--name value`, `--` ends the options.
/// Throws Failure with Status::Usage.
[[nodiscard]] CommandLine parse_command_line(std::span<const std::string_view> arguments);

/// Parses the value of --timeout: seconds, possibly with a fraction. Throws Failure with
/// Status::Usage.
[[nodiscard]] std::chrono::microseconds parse_timeout(std::string_view seconds);

[[nodiscard]] std::string help();
[[nodiscard]] std::string help(const Command& command);

}  // namespace portfwd::ctl
