// The core's values as D-Bus dictionaries, and which properties two states of an object differ in.
// Names and types are those of the XML next to this file.
#pragma once

#include <string>
#include <vector>

#include "dbus/sdbus_compat.h"
#include "forward/control.h"
#include "forward/model.h"

namespace portfwd {

[[nodiscard]] std::uint64_t microseconds(WallTime time);
[[nodiscard]] std::vector<std::string> bus_texts(const std::vector<std::string>& texts);
/// The `Labels` property of a container: those that take at most `most_bytes`, in their order.
[[nodiscard]] std::map<std::string, std::string> some_labels(
    const std::map<std::string, std::string>& labels, std::size_t most_bytes);
/// The `Listeners` property of a container, no more than take `most_bytes`.
[[nodiscard]] std::vector<Properties> listener_dictionaries(const std::vector<Listener>& listeners,
                                                            std::size_t most_bytes);
/// The `Published` property of a container, likewise.
[[nodiscard]] std::vector<Properties> published_dictionaries(
    const std::vector<PublishedPorts>& published, std::size_t most_bytes);

/// Properties that announce their changes and differ.
[[nodiscard]] std::vector<std::string> changed(const ForwardInfo& before, const ForwardInfo& after);
[[nodiscard]] std::vector<std::string> changed(const ContainerInfo& before,
                                               const ContainerInfo& after);

/// About so many bytes take an event's properties in a message.
[[nodiscard]] std::size_t size_on_bus(const Event& event);
/// What PortAdded and its like carry.
[[nodiscard]] Properties event_properties(const Event& event);
/// The object that an event is about; kNoPath for a gap.
[[nodiscard]] std::string event_path(const Event& event);

[[nodiscard]] Properties fact_dictionary(const Facts& facts);

}  // namespace portfwd
