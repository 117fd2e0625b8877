// Parsers for engine, id and name of a container, from the cgroup path and environment of its
// processes and the command line of its keeper, the engine's process that supervises it. Pure
// functions. The texts may be forged by the container: every result is printable and of limited
// length.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace portfwd::names {

// Text operations that these parsers share.
inline bool is_hex(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

/// Remove the prefix if it is there. @return whether it was
inline bool remove_front(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

/// Remove the suffix if it is there. @return whether it was
inline bool remove_back(std::string_view& text, std::string_view suffix) {
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

inline std::string_view base_name(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == path.npos ? path : path.substr(slash + 1);
}

/// What a text shows of a container; a part that it does not contain is "".
struct Guess {
  std::string engine;  ///< "docker", "podman", "kubernetes", "nspawn", "lxc", "flatpak", ...
  std::string id;      ///< given by the engine
  std::string name;
  std::string cgroup;  ///< only by from_cgroup: path of the folder with all processes of it
  /// Set by from_cgroup. False: other programs than engines make such folders as well.
  bool certain = true;

  friend bool operator==(const Guess&, const Guess&) = default;
};

/// The outermost container with an id in a cgroup path, else the outermost one, such as in
/// ".../user@1000.service/user.slice/libpod-HEX.scope/container". Inner folders are ignored, since
/// a container can make any folder below its own.
[[nodiscard]] std::optional<Guess> from_cgroup(std::string_view path);

/// The container of a keeper: conmon, containerd-shim, bwrap, systemd-nspawn, lxc-start,
/// rootlesskit. @param argv its command line
/// @return nothing if the process is no keeper
[[nodiscard]] std::optional<Guess> from_keeper(std::span<const std::string> argv);

/// The name of the container that a command replaces: "web" for `podman run --replace --name web`,
/// "" for other commands. @param argv its command line
/// Source: podman-run(1)
[[nodiscard]] std::string name_to_replace(std::span<const std::string> argv);

/// Parse `container=` (systemd.io/CONTAINER_INTERFACE), HOSTNAME and FLATPAK_ID, which engines set
/// for the first process. @param host_name of the host, which is not used as a container's name
[[nodiscard]] Guess from_environment(std::span<const std::string> environment,
                                     std::string_view host_name);

/// Whether it is a program that only serves the engine in a container's network namespace:
/// slirp4netns, pasta, aardvark-dns, the process that holds the namespaces of a pod, a runtime that
/// has not yet executed the container's program, portfwd-broker. Such a process makes no container
/// and does not determine a name.
[[nodiscard]] bool is_engine_process(std::string_view comm);

/// A name made of comm and pid, such as "python3-4711".
[[nodiscard]] std::string from_program(std::string_view comm, pid_t pid);

constexpr std::size_t kLongestName = 64;   ///< bytes
constexpr std::size_t kLongestText = 256;  ///< bytes of an image's or a pod's name

/// At most `most` bytes of valid UTF-8; characters that must not be shown become '?' (base/text.h).
[[nodiscard]] std::string printable(std::string_view text, std::size_t most = kLongestName);

[[nodiscard]] bool is_hex_id(std::string_view text);  ///< 12 to 64 lower-case hex digits

}  // namespace portfwd::names
