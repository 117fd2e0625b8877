// The commands of portfwdctl. Each calls the daemon and prints the answer.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/values.h"
#include "ctl/command_line.h"

namespace portfwd::ctl {

// URLs come from the daemon, which composes them of a scheme and a port. They are checked again, as
// xdg-open would run a handler for any scheme.
/// Whether `url` is http or https and has only printable ASCII characters, no blank and no quote.
[[nodiscard]] bool is_web_address(std::string_view url);

/// Opens a URL in the user's browser: runs xdg-open, without a shell, and waits for it. Throws
/// Failure.
void open_in_browser(const std::string& url);

// Operands of commands: containers, forwards, targets, ports.
/// Finds the container with this id, name, or unambiguous prefix of its id. Throws Failure.
[[nodiscard]] const client::Container& pick_container(
    const std::vector<client::Container>& containers, std::string_view word);

/// Finds the forward with this id, host port, or CONTAINER:TARGET. Throws Failure.
[[nodiscard]] const client::Forward& pick_forward(const std::vector<client::Forward>& forwards,
                                                  std::string_view word);

/// Whether a forward belongs to a container with this name or prefix of its id.
[[nodiscard]] bool is_of_container(const client::Forward& forward, std::string_view word);

/// The operand TARGET[:HOSTPORT].
struct ForwardOperand {
  std::string target;
  std::optional<Port> host_port = {};
  std::string host = {};  ///< "unix:/PATH"
};
/// Throws Failure with Status::Usage, as the other parsers below.
[[nodiscard]] ForwardOperand parse_forward_operand(std::string_view text);

/// The operand TARGET or CONTAINER:TARGET.
struct PortOperand {
  std::string container;  ///< empty for any
  std::string target;
};
[[nodiscard]] PortOperand parse_port_operand(std::string_view text);

[[nodiscard]] Port parse_port_or_fail(std::string_view text);
[[nodiscard]] std::string parse_target_or_fail(std::string_view text);
[[nodiscard]] std::optional<unsigned> parse_mode_or_fail(const std::optional<std::string>& text);
[[nodiscard]] std::optional<unsigned> parse_uid_or_fail(const std::optional<std::string>& text);
[[nodiscard]] unsigned parse_pid_or_fail(std::string_view text);

/// Runs the command of a line, which must have one. Prints to stdout. Throws Failure.
void run(const CommandLine& line);

}  // namespace portfwd::ctl
