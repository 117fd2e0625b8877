// The writer's short life: portfwd-broker started with --writer. It replaces one file of the user's
// for the daemon, which must not wait for the disk, and ends. Called once, by main.
//
// The text is written beside, synced and renamed, so whoever dies at whatever moment leaves the old
// file or the new one. It dies with the daemon, so that never two of them write.
#pragma once

#include "broker/protocol.h"

namespace portfwd::broker {

/// Serves one request. @param socket borrowed, blocking @return exit status
int write_for_daemon(int socket);

/// Replaces `path`, 0600, by what can be read from `text`; what is missing of its folder is made,
/// 0700. The folder itself is not synced: a rename that is lost leaves the old file.
WriteReply replace_file(const char* path, int text);

}  // namespace portfwd::broker
