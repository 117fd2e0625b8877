// Location of the devcontainer.json that a dev container was made from, found by the labels that
// the dev container tools set: `devcontainer.local_folder` and `devcontainer.config_file`. Names
// the paths and the meaning of a failure; opens no file and reads no contents.
//
// An image can carry any label. So a reader process opens only a regular file of this user, named
// devcontainer.json or .devcontainer.json, at the places that the specification names; and its
// contents can only request ports (port_metadata.h). Source:
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
// "${localEnv:NAME:DEFAULT}", or "env" in place of "localEnv". Pure, except local_environment().
// Source: https://containers.dev/implementors/json_reference/#variables-in-devcontainerjson

/// The value of a variable of the user's environment; nothing when it is not set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
/// The same for the environment of this process.
[[nodiscard]] std::optional<std::string> local_environment(const std::string& name);

/// Replaces the known variables in `text`; one without value and default becomes empty. A value is
/// not expanded again.
[[nodiscard]] std::string substituted(std::string_view text, const Environment& environment);

constexpr std::size_t kLargestFile = 1 << 20;  ///< bytes

struct ConfigPlace {
  std::string folder;  ///< absolute; nothing outside it may be opened
  std::string path;    ///< below it

  [[nodiscard]] std::string text() const { return folder + "/" + path; }
  friend bool operator==(const ConfigPlace&, const ConfigPlace&) = default;
};

/// The places where the file may be, best first; empty when the labels name no usable path. A path
/// of the kernel's (/proc, /sys, /dev) is not usable.
[[nodiscard]] std::vector<ConfigPlace> config_places(
    const std::map<std::string, std::string>& labels);

/// Why the file at that place was not read, as a sentence.
[[nodiscard]] std::string describe_read_failure(const ConfigPlace& place, const Error& error);

}  // namespace portfwd::devcontainer
