// D-Bus dictionaries as the values of values.h. What has another type than expected is left out.
#pragma once

#include <string>

#include "client/values.h"
#include "dbus/sdbus_compat.h"

namespace portfwd::client {

/// Takes over the properties of org.portfwd1.Forward that are there; the others keep their values.
void update(Forward& forward, const Properties& properties);
void update(Container& container, const Properties& properties);

/// @param path of the object that the event is about
/// @param properties in which Reason is the event's own, and the object's is called StateReason
[[nodiscard]] Event decode_event(const std::string& type, const std::string& path,
                                 const Properties& properties);

[[nodiscard]] Explanation decode_explanation(const Properties& facts);
[[nodiscard]] Status decode_status(const Properties& facts);

}  // namespace portfwd::client
