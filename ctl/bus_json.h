// D-Bus dictionaries as the JSON of portfwdctl(1). The only file of the client besides client.cc
// that knows sdbus-c++.
#pragma once

#include "ctl/objects.h"
#include "dbus/sdbus_compat.h"

namespace portfwd::ctl {

/// @param properties of org.portfwd1.Forward, or of an event, where Reason is the event's and the
///   forward's own is StateReason
[[nodiscard]] Json forward_json(const Properties& properties);
[[nodiscard]] Json container_json(const Properties& properties);
[[nodiscard]] Json event_json(const std::string& type, const Properties& properties);
/// Any dictionary, key by key.
[[nodiscard]] Json facts_json(const Properties& facts);

}  // namespace portfwd::ctl
