// The variables of devcontainer.json that are known here, those of the user's environment:
// "${localEnv:NAME}" and "${localEnv:NAME:DEFAULT}". Pure, but for local_environment().
// Source: https://containers.dev/implementors/json_reference/#variables-in-devcontainerjson
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace portfwd::devcontainer {

/// The value of a variable of the user's environment; nothing when it is not set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
/// That of this process.
[[nodiscard]] std::optional<std::string> local_environment(const std::string& name);

/// `text` with its variables replaced as far as they are known; one without value and default is
/// empty. The value of one is taken as it is.
[[nodiscard]] std::string substituted(std::string_view text, const Environment& environment);

}  // namespace portfwd::devcontainer
