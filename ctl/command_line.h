// The command line of portfwdctl as a table: what commands and options there are, how a line is
// read against it, and the help that is made of it. It knows nothing of what commands do.
//
// Not getopt_long: that permutes or stops at the first operand, knows one level of options, and its
// messages name neither the command nor a remedy.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace portfwd::ctl {

struct Option {
  std::string_view name;   ///< with its two dashes
  std::string_view value;  ///< what to call its value in the help; empty for a switch
  std::string_view help;
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
  const Command* command = nullptr;  ///< nothing only with --help or --version
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

/// The value of --timeout: seconds, with a fraction if need be. Throws Failure with Status::Usage.
[[nodiscard]] std::chrono::microseconds parse_timeout(std::string_view seconds);

[[nodiscard]] std::string help();
[[nodiscard]] std::string help(const Command& command);

/// The candidate that `word` was most likely meant to be; empty when none is near.
[[nodiscard]] std::string_view nearest(std::string_view word,
                                       std::span<const std::string_view> candidates);

}  // namespace portfwd::ctl
