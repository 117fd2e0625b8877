// Hints at how the user could permit access to a container of root, as words for remedies. Computed
// when a remedy is shown; nothing is changed here.
//
// A process has the groups that it was started with. The user's service manager, and with it the
// daemon, gets them when the first session of the user begins, and keeps them until ten seconds
// after the last one has ended, or forever if the user lingers. So neither newgrp(1), which changes
// its own shell alone, nor a restart of the daemon is enough. Source: credentials(7),
// user@.service(5), logind.conf(5): UserStopDelaySec=.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

namespace portfwd {

/// The remedy that works for any container.
inline constexpr std::string_view kRunRootless = "run the container rootless";

struct User {
  std::string name;  ///< of the login; may be empty when it cannot be known
  uid_t uid = 0;
};

/// How the user obtains the use of an engine's socket: by the group that owns it, as in "join the
/// group docker: `sudo ...". Another text for a member of the group whose sessions began before.
/// "" when there is no socket or no group may use it. The group of root is never suggested.
/// @param groups a file as group(5) has it
[[nodiscard]] std::string hint_to_join_group(const std::string& socket, const User& user,
                                             const char* groups = "/etc/group");

}  // namespace portfwd
