// The texts of /proc as values. Pure: bytes in, values out; a text that is not as proc(5) says
// gives nothing. A process chooses its name, arguments and host name itself, so nothing here trusts
// them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace portfwd::procfs {

/// /proc/PID/stat, as far as it is of use here.
struct Stat {
  pid_t pid = 0;
  std::string comm;  ///< at most 15 bytes, any but NUL: parentheses and blanks too
  char state = '?';  ///< 'Z' for a zombie
  pid_t ppid = 0;
  std::uint64_t started =
      0;  ///< clock ticks since boot; with the pid it tells one process for good
};
[[nodiscard]] std::optional<Stat> parse_stat(std::string_view text);

/// Effective uid in /proc/PID/status: "Uid: real effective saved filesystem".
[[nodiscard]] std::optional<uid_t> parse_status_uid(std::string_view text);

/// How many ids /proc/PID/uid_map maps: lines of "inside outside count"; user_namespaces(7). 0 when
/// nothing is mapped or a line is not as it should be.
[[nodiscard]] std::uint64_t mapped_ids(std::string_view text);

/// Whether /proc/PID/uid_map maps this id of the reader's user namespace.
[[nodiscard]] bool maps_id(std::string_view text, std::uint32_t id);

/// /proc/loadavg's last field: the pid given last in our pid namespace. When it has not moved, no
/// process was started.
[[nodiscard]] std::optional<pid_t> parse_last_pid(std::string_view text);

/// The paths of /proc/PID/cgroup, that of the unified hierarchy ("0::") first; cgroups(7).
[[nodiscard]] std::vector<std::string> parse_cgroup(std::string_view text);
/// That of the unified hierarchy alone; nothing when the process is in a part of it that cannot be
/// seen from here ("/../..": outside of our cgroup namespace).
[[nodiscard]] std::optional<std::string> parse_unified_cgroup(std::string_view text);

/// /proc/PID/cmdline and environ: strings that end in NUL; the last one may have been cut.
[[nodiscard]] std::vector<std::string> split_strings(std::string_view text);

/// "net:[4026531840]", as readlink gives it for /proc/PID/ns/net and mountinfo for nsfs.
[[nodiscard]] std::optional<std::uint64_t> parse_netns_link(std::string_view text);
/// The same of another kind, such as "user".
[[nodiscard]] std::optional<std::uint64_t> parse_namespace_link(std::string_view text,
                                                                std::string_view kind);

/// "socket:[12345]", as readlink gives it for /proc/PID/fd/N.
[[nodiscard]] std::optional<std::uint64_t> parse_socket_link(std::string_view text);

/// One line of /proc/PID/mountinfo; the octal escapes of the paths are undone.
struct Mount {
  std::string root;   ///< what of the file system is mounted
  std::string point;  ///< where
  std::string type;
};
[[nodiscard]] std::optional<Mount> parse_mount(std::string_view line);
/// All lines that are well-formed; the others are passed over.
[[nodiscard]] std::vector<Mount> parse_mountinfo(std::string_view text);

}  // namespace portfwd::procfs
