// A cgroup of the unified hierarchy as the folder that it is. Pure functions on a path; they know
// no containers.
#pragma once

#include <cstdint>
#include <string>

namespace portfwd {

/// The number that the kernel has for a cgroup: its folder's inode, and INET_DIAG_CGROUP_ID of the
/// sockets that its processes make. 0 when it is not there.
/// Fact: CgroupFacts.TheIdOfASocketsCgroupIsTheInodeOfItsMakersFolder
[[nodiscard]] std::uint64_t cgroup_id_of(const std::string& folder);

/// Whether the cgroup of this number is `folder` or one below it, as a container's own systemd
/// makes them. Looks at no more than 4096 folders and 16 levels; what is not found there is not
/// there.
[[nodiscard]] bool cgroup_holds(const std::string& folder, std::uint64_t id);

}  // namespace portfwd
