// The first request of a broker's life: go where the sockets are to be made, and lock the door
// behind. Called once, by main. A broker whose join failed half-way is of no use and ends.
#pragma once

#include "broker/outcome.h"
#include "broker/protocol.h"

namespace portfwd::broker {

/// Enters `userns` if it is valid, takes up its home and gives away everything else.
/// @param home set to the private network namespace, or left invalid for Home::Here
/// Source: setns(2): only a single-threaded process may join a user namespace, and there is no way
/// back.
Outcome join(const Request& request, UniqueFd userns, UniqueFd& home);

}  // namespace portfwd::broker
