// The devcontainer.json of the folder that a dev container was made from, found by the labels that
// the dev container tools set: `devcontainer.local_folder` and `devcontainer.config_file`. It knows
// where the file may be and what a failure means; it opens nothing and does not read the contents.
//
// An image can carry any label. So only a regular file of this user, named devcontainer.json or
// .devcontainer.json, at the places that the specification names, must be opened, by a reader
// process; and its contents can only request ports (port_metadata.h). Source:
// https://containers.dev/implementors/spec/#devcontainerjson
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace portfwd::devcontainer {

// Variables of devcontainer.json that stand for the user's environment: "${localEnv:NAME}" and
// "${localEnv:NAME:DEFAULT}". Pure, except local_environment().
// Source: https://containers.dev/implementors/json_reference/#variables-in-devcontainerjson

/// The value of a variable of the user's environment; nothing when it is not set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
/// That of this process.
[[nodiscard]] std::optional<std::string> local_environment(const std::string& name);

/// `text` with its variables replaced as far as they are known; one without value and default is
/// empty. A value is not expanded again.
[[nodiscard]] std::string substituted(std::string_view text, const Environment& environment);

constexpr std::size_t kLargestFile = 1 << 20;  ///< bytes

struct ConfigPlace {
  std::string folder;  ///< absolute; nothing outside of it is to be opened
  std::string path;    ///< below it

  [[nodiscard]] std::string text() const { return folder + "/" + path; }
  friend bool operator==(const ConfigPlace&, const ConfigPlace&) = default;
};

/// Where the file may be, best first; empty when the labels name no folder, or one of the kernel's
/// (/proc, /sys, /dev).
[[nodiscard]] std::vector<ConfigPlace> config_places(
    const std::map<std::string, std::string>& labels);

/// Why the file at that place was not read, as a sentence with the remedy.
[[nodiscard]] std::string why_not_read(const ConfigPlace& place, const Error& error);

}  // namespace portfwd::devcontainer
