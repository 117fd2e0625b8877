// Well-known sockets of the host that can be shared with containers by name, and paths with
// variables. Values only: no variable is read and no path is looked up here.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace portfwd {

struct Preset {
  std::string_view name;      ///< "ssh-agent"
  std::string_view host;      ///< path on the host, with variables: "$SSH_AUTH_SOCK"
  std::string_view file;      ///< name of the socket inside: "ssh-agent.sock"
  std::string_view variable;  ///< to set inside: "SSH_AUTH_SOCK"
  std::string_view prefix;    ///< of its value, before the path inside: "unix://"
  bool pass_fds = false;      ///< its protocol passes descriptors
  std::string_view gains;     ///< what the container gains by it, a clause
};

/// All of them, ordered by name.
[[nodiscard]] std::span<const Preset> presets();
/// Null if there is none of that name.
[[nodiscard]] const Preset* find_preset(std::string_view name);

/// The folder inside for the sockets of presets.
inline constexpr std::string_view kSharedFolder = "/run/portfwd";

/// The value of a variable; nothing if it is not set.
using VariableOf = std::function<std::optional<std::string>(std::string_view name)>;
/// Whether the path has variables, and expand() is needed.
[[nodiscard]] bool has_variables(std::string_view path);
/// Replaces $NAME and ${NAME} by their values. ${NAME:-TEXT} is TEXT if the variable is not set or
/// empty.
/// @return nothing if a variable is not set or a brace is not closed
[[nodiscard]] std::optional<std::string> expand(std::string_view path, const VariableOf& value_of);

}  // namespace portfwd
