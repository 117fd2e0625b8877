// The broker's working life: one request after the other until the daemon goes. Called by main
// after the join. Each request goes to its namespace and back, so between two of them it pins
// nobody's.
#pragma once

#include "broker/channel.h"

namespace portfwd::broker {

/// @param home borrowed; the network namespace to return to, or -1: then no other can be entered
void serve(const Channel& channel, int home);

}  // namespace portfwd::broker
