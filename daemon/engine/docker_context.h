// The engine that the docker command talks to where $DOCKER_HOST names none: the current context of
// the user's configuration. Read once, at start; it asks nobody.
// Source: docs.docker.com/engine/manage-resources/contexts; docker(1), DOCKER_CONFIG,
// DOCKER_CONTEXT.
#pragma once

#include <optional>
#include <string>

namespace portfwd {

struct DockerContext {
  std::string name;
  std::string host;  ///< such as "unix:///run/user/1000/docker.sock" or "ssh://me@far"
};

/// @param folder $DOCKER_CONFIG, or .docker in the home folder
/// @param chosen $DOCKER_CONTEXT; "" leaves it to the configuration
/// @return nothing for the default context, which is the system's socket, and for one that nobody
/// has described
[[nodiscard]] std::optional<DockerContext> current_docker_context(const std::string& folder,
                                                                  std::string chosen);

}  // namespace portfwd
