// The commands of portfwdctl: each asks the daemon and prints the answer.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/values.h"
#include "ctl/command_line.h"

namespace portfwd::ctl {

// Hands a URL to the user's browser. The URL comes from the daemon, which made it of a port and a
// scheme; it is checked all the same, as xdg-open would run a handler for any scheme.
/// http or https, and no character that has no place in a URL.
[[nodiscard]] bool is_web_address(std::string_view url);

/// Runs xdg-open, without a shell, and waits for it. Throws Failure.
void open_in_browser(const std::string& url);

// What the operands of a command mean: a word for a container or a forward, a target, a port.
/// A container's name, its id, or an unambiguous beginning of its id. Throws Failure.
[[nodiscard]] const client::Container& pick_container(
    const std::vector<client::Container>& containers, std::string_view word);

/// A forward's id, its host port, or CONTAINER:PORT. Throws Failure.
[[nodiscard]] const client::Forward& pick_forward(const std::vector<client::Forward>& forwards,
                                                  std::string_view word);

/// Whether a forward belongs to the container that `word` means.
[[nodiscard]] bool is_of_container(const client::Forward& forward, std::string_view word);

/// The operand TARGET[:HOSTPORT].
struct ForwardOperand {
  std::string target;
  std::optional<Port> host_port;
};
/// Throws Failure with Status::Usage, as the next ones do.
[[nodiscard]] ForwardOperand parse_forward_operand(std::string_view text);

/// The operand PORT or CONTAINER:PORT.
struct PortOperand {
  std::string container;  ///< empty: any
  std::string target;
};
[[nodiscard]] PortOperand parse_port_operand(std::string_view text);

[[nodiscard]] Port parse_port_or_fail(std::string_view text);
[[nodiscard]] std::string parse_target_or_fail(std::string_view text);
[[nodiscard]] unsigned parse_pid_or_fail(std::string_view text);

/// Runs the command of a line, which must have one. Prints to stdout; throws Failure or
/// client::Error.
void run(const CommandLine& line);

}  // namespace portfwd::ctl
