// Addresses of this user's container engines, and the places of podman's files: from the
// environment, else from docker's own configuration, then the defaults of their packages. Whether
// an engine listens there is known only after a request.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace portfwd {

// The engine that the docker command talks to where $DOCKER_HOST names none: the current context of
// the user's configuration. Read once, at start, from files alone.
// Source: docs.docker.com/engine/manage-resources/contexts; docker(1), DOCKER_CONFIG,
// DOCKER_CONTEXT.
struct DockerContext {
  std::string name;
  std::string host;  ///< such as "unix:///run/user/1000/docker.sock" or "ssh://me@far"
};

/// @param folder $DOCKER_CONFIG, or .docker in the home folder
/// @param chosen $DOCKER_CONTEXT; "" leaves it to the configuration
/// @return nothing for the default context, which is the system's socket, and for one without a
/// description
[[nodiscard]] std::optional<DockerContext> current_docker_context(const std::string& folder,
                                                                  std::string chosen);

enum class EngineKind : std::uint8_t { Podman, Docker };
[[nodiscard]] std::string_view name_of(EngineKind kind);  ///< "podman", "docker"

struct EngineEnvironment {
  std::string docker_host;     ///< $DOCKER_HOST
  std::string container_host;  ///< $CONTAINER_HOST, podman's
  std::string runtime_dir;     ///< $XDG_RUNTIME_DIR
  std::string data_dir;        ///< where this user's podman keeps its storage
  /// What the docker command uses where $DOCKER_HOST is not set.
  std::optional<DockerContext> docker_context{};
  [[nodiscard]] static EngineEnvironment of_this_process();
};

/// Files in which podman records its containers. Either may be missing.
struct PodmanFiles {
  std::string events;   ///< events.log
  std::string storage;  ///< the graph root
};
[[nodiscard]] PodmanFiles podman_files(const EngineEnvironment& environment);

/// An engine that is not queried, since its containers are on another machine.
struct EngineElsewhere {
  EngineKind kind;
  std::string named_by;  ///< a variable, or docker's context
  std::string address;
};

struct EngineSockets {
  std::vector<std::string> podman;  ///< paths of Unix sockets, best first, none twice
  std::vector<std::string> docker;
  std::vector<EngineElsewhere> elsewhere;
};

[[nodiscard]] EngineSockets engine_sockets(const EngineEnvironment& environment);

}  // namespace portfwd
