// The properties of a forward and of a container, one row each: its name on the bus, how a change
// of it is announced, and its value. The objects on the bus, PropertiesChanged and the events all
// derive from these tables; a new property is one row here, and one in client/values.h for those
// who read it. Names and types are those of the XML next to this file, which BusIntrospectionTest
// compares with the running objects.
#pragma once

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "api/control.h"
#include "dbus/bus_errors.h"
#include "dbus/objects.h"
#include "dbus/sdbus_compat.h"
#include "forward/model.h"

namespace portfwd {
struct ListenerList;
}

template <>
struct sdbus::signature_of<portfwd::ListenerList>
    : sdbus::signature_of<std::vector<portfwd::Properties>> {};

namespace portfwd {

using compat::Change;

/// @tparam Value of an Info: what the bus sends @tparam Same of two Infos: whether it would send
/// the same
template <class Value, class Same>
struct PropertyRow {
  const char* name;
  Change change;
  const char* event_name;  ///< in PortAdded and its like; null: it is not sent there
  Value value;
  Same same;
};

namespace fields_detail {

template <class Value>
constexpr auto row(const char* name, Change change, const char* event_name, Value value) {
  const auto same = [value](const auto& a, const auto& b) { return value(a) == value(b); };
  return PropertyRow<Value, decltype(same)>{name, change, event_name, value, same};
}

}  // namespace fields_detail

[[nodiscard]] std::uint64_t microseconds(WallTime time);
[[nodiscard]] std::vector<std::string> bus_texts(const std::vector<std::string>& texts);
/// The `Labels` property of a container: those that take at most `most_bytes`, in their order.
[[nodiscard]] std::map<std::string, std::string> some_labels(
    const std::map<std::string, std::string>& labels, std::size_t most_bytes);
/// The `Listeners` property of a container, no more than take `most_bytes`. It is written to a
/// message entry by entry: there may be thousands, and an sdbus::Variant is a message of its own.
struct ListenerList {
  const std::vector<Listener>& listeners;
  std::size_t most_bytes;
};
sdbus::Message& operator<<(sdbus::Message& message, const ListenerList& list);
/// The `Published` property of a container, likewise.
[[nodiscard]] std::vector<Properties> published_dictionaries(
    const std::vector<PublishedPorts>& published, std::size_t most_bytes);

/// A property whose value in an event has the same name.
template <class Value>
constexpr auto property(const char* name, Change change, Value value) {
  return fields_detail::row(name, change, name, value);
}

using F = const ForwardInfo&;
inline constexpr std::tuple kForwardProperties{
    property("Id", Change::Never, [](F f) { return bus_text(f.id); }),
    property("Container", Change::Announced,
             [](F f) { return sdbus::ObjectPath(container_path(f.container_id)); }),
    property("ContainerId", Change::Announced, [](F f) { return bus_text(f.container_id); }),
    property("ContainerName", Change::Announced, [](F f) { return bus_text(f.container_name); }),
    property("ContainerEngine", Change::Announced,
             [](F f) { return bus_text(f.container_engine); }),
    property("Protocol", Change::Never, [](F f) { return std::string(name_of(f.protocol)); }),
    property("Direction", Change::Never, [](F f) { return std::string(name_of(f.direction)); }),
    property("Target", Change::Never, [](F f) { return bus_text(f.target); }),
    property("ContainerAddress", Change::Announced,
             [](F f) { return bus_text(f.container_address); }),
    property("ContainerPort", Change::Never, [](F f) { return f.container_port; }),
    property(
        "HostAddress", Change::Announced,
        [](F f) { return f.host_addresses.empty() ? "" : bus_text(f.host_addresses.front()); }),
    property("HostAddresses", Change::Announced, [](F f) { return bus_texts(f.host_addresses); }),
    property("HostPort", Change::Announced, [](F f) { return f.host_port; }),
    property("Origin", Change::Announced, [](F f) { return std::string(name_of(f.origin)); }),
    property("State", Change::Announced, [](F f) { return std::string(name_of(f.state)); }),
    // An event's own Reason is why it happened.
    fields_detail::row("Reason", Change::Announced, "StateReason",
                       [](F f) { return bus_text(f.reason); }),
    property("Label", Change::Announced, [](F f) { return bus_text(f.label); }),
    property("Process", Change::Announced, [](F f) { return bus_text(f.process); }),
    property("Url", Change::Announced, [](F f) { return bus_text(f.url); }),
    property("OnAutoForward", Change::Announced, [](F f) { return bus_text(f.on_auto_forward); }),
    property("Since", Change::Never, [](F f) { return microseconds(f.since); }),
    property("ConnectionsActive", Change::Silent, [](F f) { return f.counters.active; }),
    property("ConnectionsTotal", Change::Silent, [](F f) { return f.counters.total; }),
    property("ConnectionsFailed", Change::Silent, [](F f) { return f.counters.failed; }),
    property("ConnectionsRefused", Change::Silent, [](F f) { return f.counters.refused; }),
    property("BytesIn", Change::Silent, [](F f) { return f.counters.bytes_in; }),
    property("BytesOut", Change::Silent, [](F f) { return f.counters.bytes_out; }),
};

/// GetManagedObjects is one message with every property of every object, which a bus drops, and the
/// sender with it, when it is too large. So the lists of all containers together have a limit, and
/// each container sends its part of them.
struct ContainerView {
  static constexpr std::size_t kAllLabels = 6UL << 20;  ///< bytes, as the next two
  static constexpr std::size_t kAllListeners = 16UL << 20;
  static constexpr std::size_t kAllPublished = 2UL << 20;

  const ContainerInfo& info;
  std::size_t share = 1;  ///< in so many parts the limits are divided
};

namespace fields_detail {

/// A list: only in the object, compared before it is made into dictionaries.
template <class Value, class Member>
constexpr auto list(const char* name, Member member, Value value) {
  const auto same = [member](const auto& a, const auto& b) {
    return a.info.*member == b.info.*member;
  };
  return PropertyRow<Value, decltype(same)>{name, Change::Announced, nullptr, value, same};
}

}  // namespace fields_detail

using C = const ContainerView&;
inline constexpr std::tuple kContainerProperties{
    property("Id", Change::Never, [](C c) { return bus_text(c.info.id); }),
    property("Name", Change::Announced, [](C c) { return bus_text(c.info.name); }),
    property("Engine", Change::Announced, [](C c) { return bus_text(c.info.engine); }),
    property("Uid", Change::Announced, [](C c) { return std::uint32_t{c.info.uid}; }),
    property("Pid", Change::Announced, [](C c) { return static_cast<std::uint32_t>(c.info.pid); }),
    property("Netns", Change::Never, [](C c) { return c.info.netns; }),
    property("Image", Change::Announced, [](C c) { return bus_text(c.info.image); }),
    property("Pod", Change::Announced, [](C c) { return bus_text(c.info.pod); }),
    property("Project", Change::Announced, [](C c) { return bus_text(c.info.project); }),
    property("Service", Change::Announced, [](C c) { return bus_text(c.info.service); }),
    fields_detail::list(
        "Labels", &ContainerInfo::labels,
        [](C c) { return some_labels(c.info.labels, ContainerView::kAllLabels / c.share); }),
    fields_detail::list("Published", &ContainerInfo::published,
                        [](C c) {
                          return published_dictionaries(c.info.published,
                                                        ContainerView::kAllPublished / c.share);
                        }),
    property("State", Change::Announced, [](C c) { return std::string(name_of(c.info.state)); }),
    property("Reach", Change::Announced, [](C c) { return std::string(name_of(c.info.reach)); }),
    fields_detail::row("Reason", Change::Announced, "StateReason",
                       [](C c) { return bus_text(c.info.reason); }),
    fields_detail::list(
        "Listeners", &ContainerInfo::listeners,
        [](C c) {
          return ListenerList{c.info.listeners, ContainerView::kAllListeners / c.share};
        }),
    fields_detail::row("ListenersTotal", Change::Announced, nullptr,
                       [](C c) { return static_cast<std::uint32_t>(c.info.listeners.size()); }),
    property("EverListened", Change::Announced, [](C c) { return c.info.ever_listened; }),
    property("Attached", Change::Announced, [](C c) { return c.info.attached; }),
};

/// Adds the names of those properties that announce their changes and differ.
template <class Table, class Info>
void note_changes(const Table& table, const Info& before, const Info& after,
                  std::set<std::string>& names) {
  const auto check = [&](const auto& row) {
    if (row.change == Change::Announced && !row.same(before, after)) names.emplace(row.name);
  };
  std::apply([&](const auto&... rows) { (check(rows), ...); }, table);
}

/// Adds the properties of a table to those of an event.
template <class Table, class Info>
void add_event_properties(const Table& table, const Info& info, Properties& out) {
  const auto add = [&](const auto& row) {
    if (row.event_name != nullptr) out.emplace(row.event_name, sdbus::Variant(row.value(info)));
  };
  std::apply([&](const auto&... rows) { (add(rows), ...); }, table);
}

/// Registers the properties of a table. @param info returns the Info as it is when a property is
/// read, given how changes of that property are announced
template <class Table, class GetInfo>
void register_properties(compat::Vtable& vtable, const Table& table, GetInfo info) {
  const auto add = [&](const auto& row) {
    vtable.property(row.name, row.change, [&row, info] { return row.value(info(row.change)); });
  };
  std::apply([&](const auto&... rows) { (add(rows), ...); }, table);
}

// The core's events and facts as D-Bus dictionaries.
/// About so many bytes take an event's properties in a message.
[[nodiscard]] std::size_t size_on_bus(const Event& event);
/// What PortAdded and its like carry.
[[nodiscard]] Properties event_properties(const Event& event);
/// The object that an event is about; kNoPath for a gap.
[[nodiscard]] std::string event_path(const Event& event);

[[nodiscard]] Properties fact_dictionary(const Facts& facts);

}  // namespace portfwd
