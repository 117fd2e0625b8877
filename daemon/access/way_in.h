// What a person can do to let us into a container of root's, as words for remedies. Asked when they
// are needed; nothing is changed here.
//
// A process has the groups that it was started with. The user's service manager, and with it the
// daemon, gets them when the first session of the user begins, and keeps them until ten seconds
// after the last one has ended, or for ever if he lingers. So neither newgrp(1), which changes its
// own shell alone, nor a restart of the daemon is enough.
// Source: credentials(7), user@.service(5), logind.conf(5): UserStopDelaySec=.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

namespace portfwd {

/// What lets us into anybody's container.
inline constexpr std::string_view kRunItRootless = "run the container rootless";

struct User {
  std::string name;  ///< of the login; may be empty when it can't be known
  uid_t uid = 0;
};

/// How this user would come to use an engine's socket that is closed to him: by the group that owns
/// it, as in "join the group docker: `sudo ...". Another sentence for who is in the group
/// already, though his sessions are not. "" when there is no socket or it is for no group.
/// @param groups a file as group(5) has it
[[nodiscard]] std::string how_to_join(const std::string& socket, const User& user,
                                      const char* groups = "/etc/group");

}  // namespace portfwd
