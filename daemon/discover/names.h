// Names of containers, read from the texts that their processes leave: cgroup paths, the command
// line of the program that keeps the container, its environment. Pure functions on strings that the
// container may have made up: every result is printable and short.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace portfwd::names {

// Operations on texts that the readers of such names share.
inline bool is_hex(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

/// @return whether `text` began with it, and it was removed
inline bool remove_front(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

inline bool remove_back(std::string_view& text, std::string_view suffix) {
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

inline std::string_view base_name(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == path.npos ? path : path.substr(slash + 1);
}

/// What a text says of a container; each part is "" when it is not there.
struct Guess {
  std::string engine;  ///< "docker", "podman", "kubernetes", "nspawn", "lxc", "flatpak", ...
  std::string id;      ///< the engine's own
  std::string name;
  std::string cgroup;  ///< of from_cgroup: the folder that holds all of the container's processes
  /// Of from_cgroup; false: not only containers have such folders.
  bool certain = true;

  friend bool operator==(const Guess&, const Guess&) = default;
};

/// The outermost container that a cgroup path names, such as
/// ".../user@1000.service/user.slice/libpod-HEX.scope/container": below its own folder a container
/// may make any folder. One with an id is preferred.
[[nodiscard]] std::optional<Guess> from_cgroup(std::string_view path);

/// A process that keeps a container as its child: conmon, containerd-shim, bwrap, systemd-nspawn,
/// lxc-start. @param argv its command line
[[nodiscard]] std::optional<Guess> from_keeper(std::span<const std::string> argv);

/// The name of the container that a command replaces: "web" for `podman run --replace --name web`;
/// "" for every other command. Source: podman-run(1). @param argv its command line
[[nodiscard]] std::string name_to_replace(std::span<const std::string> argv);

/// `container=` (systemd.io/CONTAINER_INTERFACE), HOSTNAME and FLATPAK_ID, as engines set them for
/// the first process. @param host_name the host's own, which is no container's name
[[nodiscard]] Guess from_environment(std::span<const std::string> environment,
                                     std::string_view host_name);

/// Programs in a container's network namespace that serve its engine. They make no container and
/// give no name: slirp4netns, pasta, aardvark-dns, the process that only holds a pod's namespaces,
/// runtimes that have not yet started the container's program, our own broker.
[[nodiscard]] bool is_plumbing(std::string_view comm);

/// "python3-4711".
[[nodiscard]] std::string from_program(std::string_view comm, pid_t pid);

constexpr std::size_t kLongestName = 64;   ///< bytes
constexpr std::size_t kLongestText = 256;  ///< bytes of an image's or a pod's name

/// At most `most` bytes of valid UTF-8 without control characters; others become '?'.
[[nodiscard]] std::string printable(std::string_view text, std::size_t most = kLongestName);

[[nodiscard]] bool is_hex_id(std::string_view text);  ///< 12 to 64 lower-case hex digits

}  // namespace portfwd::names
