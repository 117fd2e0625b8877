// Requests to an engine about helper containers, as texts, and the parsers of its answers. Pure.
// Source: docs.docker.com/reference/api/engine/version/v1.40 (Docker 19.03 and later; Podman's
// compatible API).
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

namespace portfwd::helper {

struct Spec {
  std::string container_id;  ///< whose network namespace it joins
  std::string image_id;      ///< the container's own: nothing is pulled
  std::string program;       ///< path of portfwd-broker on the host
  std::string socket;        ///< path of the socket that it is to connect to, on the host
  std::string folder;        ///< the daemon's runtime folder: tells whose helper it is
  std::string life;          ///< of the daemon: what is of another one was left behind
  uid_t uid = 0;
  gid_t gid = 0;
};

/// The body of POST /containers/create: no capability, no new privileges, nothing writable, the
/// user's own uid, removed when it ends.
[[nodiscard]] std::string creation(const Spec& spec);

[[nodiscard]] std::string inspect_path(std::string_view container_id);
[[nodiscard]] std::string create_path();
[[nodiscard]] std::string start_path(std::string_view id);
[[nodiscard]] std::string remove_path(std::string_view id);
/// All helpers of a daemon with that runtime folder, running or not.
[[nodiscard]] std::string list_path(std::string_view folder);

/// "" when the answer has none.
[[nodiscard]] std::string image_of(std::string_view inspected);
[[nodiscard]] std::string id_of(std::string_view created);
[[nodiscard]] std::string message_of(std::string_view failure);
/// Of all in a list but those of that life.
[[nodiscard]] std::vector<std::string> ids_of(std::string_view list, std::string_view but_of_life);

}  // namespace portfwd::helper
