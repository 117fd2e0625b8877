// How a broker that somebody else has started (an engine, as a helper container) comes to its end
// of the daemon's socket pair: it connects to a socket of the daemon's and is given it. Called
// once, by main.
#pragma once

#include "base/unique_fd.h"

namespace portfwd::broker {

/// @param path of a SOCK_SEQPACKET socket
/// @return invalid when nobody listens there, or what came was no single descriptor
[[nodiscard]] UniqueFd fetch_channel(const char* path);

}  // namespace portfwd::broker
