// The devcontainer.json of the folder that a dev container was made from, found by the labels that
// the dev container tools set: `devcontainer.local_folder` and `devcontainer.config_file`. It reads
// files of this user's and knows nothing of what is in them.
//
// An image can carry any label. So nothing is opened but a regular file of this user, named
// devcontainer.json or .devcontainer.json, at the places that the specification names, and what it
// says can ask for nothing but ports (port_metadata.h).
// Source: https://containers.dev/implementors/spec/#devcontainerjson
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "base/error.h"

namespace portfwd::devcontainer {

constexpr std::size_t kLargestFile = 1 << 20;  ///< bytes

/// Where the file may be, best first, absolute; empty when the labels name no folder.
[[nodiscard]] std::vector<std::string> config_paths(
    const std::map<std::string, std::string>& labels);

/// @param owner whose file it has to be
/// @return its text. ENOENT: there is none; EACCES: it is another user's; EINVAL: it is no regular
/// file; EFBIG: it is beyond kLargestFile; ELOOP: it is a symbolic link
[[nodiscard]] Result<std::string> read_config(const std::string& path, uid_t owner);

}  // namespace portfwd::devcontainer
