// Addresses of the user's container engines, and paths of podman's files: from the environment, the
// configuration of the docker command, and the default paths of the engines. Whether an engine
// listens at an address is known only after a request.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace portfwd {

// The engine that the docker command uses if $DOCKER_HOST is not set: the current context of the
// user's configuration. Read once, at start, from files.
// Source: docs.docker.com/engine/manage-resources/contexts; docker(1), DOCKER_CONFIG,
// DOCKER_CONTEXT
struct DockerContext {
  std::string name;
  std::string host;  ///< such as "unix:///run/user/1000/docker.sock" or "ssh://me@far"
};

/// @param folder $DOCKER_CONFIG, or .docker in the home folder
/// @param chosen $DOCKER_CONTEXT; "": the context that the configuration names
/// @return nothing for the default context, which is the system's socket, and for a context without
/// an address
[[nodiscard]] std::optional<DockerContext> current_docker_context(const std::string& folder,
                                                                  std::string chosen);

enum class EngineKind : std::uint8_t { Podman, Docker };
[[nodiscard]] std::string_view name_of(EngineKind kind);  ///< "podman", "docker"

struct EngineEnvironment {
  std::string docker_host;     ///< $DOCKER_HOST
  std::string container_host;  ///< $CONTAINER_HOST, podman's
  std::string runtime_dir;     ///< $XDG_RUNTIME_DIR
  std::string data_dir;        ///< parent of containers/storage of the user's podman
  /// Used if $DOCKER_HOST is not set.
  std::optional<DockerContext> docker_context{};
  [[nodiscard]] static EngineEnvironment of_this_process();
};

/// Files in which podman records its containers. Either may not exist.
struct PodmanFiles {
  std::string events;   ///< events.log
  std::string storage;  ///< the graph root
};
[[nodiscard]] PodmanFiles podman_files(const EngineEnvironment& environment);

/// An engine that is not queried because its address is no Unix socket: its containers are not, or
/// not certainly, on this machine.
struct EngineElsewhere {
  EngineKind kind;
  std::string named_by;  ///< an environment variable, or docker's context
  std::string address;
};

struct EngineSockets {
  std::vector<std::string> podman;  ///< paths of Unix sockets, best first, without duplicates
  std::vector<std::string> docker;
  std::vector<EngineElsewhere> elsewhere;
};

[[nodiscard]] EngineSockets engine_sockets(const EngineEnvironment& environment);

}  // namespace portfwd
