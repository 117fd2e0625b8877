// The core's events and facts as D-Bus dictionaries.
#pragma once

#include <string>
#include <vector>

#include "api/control.h"
#include "dbus/sdbus_compat.h"
#include "forward/model.h"

namespace portfwd {

/// About so many bytes take an event's properties in a message.
[[nodiscard]] std::size_t size_on_bus(const Event& event);
/// What PortAdded and its like carry.
[[nodiscard]] Properties event_properties(const Event& event);
/// The object that an event is about; kNoPath for a gap.
[[nodiscard]] std::string event_path(const Event& event);

[[nodiscard]] Properties fact_dictionary(const Facts& facts);

}  // namespace portfwd
