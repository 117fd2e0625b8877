// Tables of the D-Bus properties of forwards and containers. A row has the name of a property, how
// its changes are announced, and its value. The objects on the bus, PropertiesChanged and the
// properties of events derive from these tables; a new property is one row here and, for clients,
// one in client/values.h. Names and types are those of the XML next to this file, which
// BusIntrospectionTest compares with the running objects.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "api/control.h"
#include "dbus/message.h"
#include "dbus/objects.h"
#include "forward/model.h"

namespace portfwd {

/// @tparam Value function from an Info to the value that is sent
/// @tparam Same predicate of two Infos: whether their values are equal
template <class Value, class Same>
struct PropertyRow {
  const char* name;
  Change change;
  const char* event_name;  ///< in PortAdded, PortRemoved etc.; null when events do not have it
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
/// The `Labels` property of a container: the first labels that fit into `max_bytes`.
[[nodiscard]] std::map<std::string, std::string> first_labels(
    const std::map<std::string, std::string>& labels, std::size_t max_bytes);
/// The `Listeners` property of a container: the first listeners that fit into `max_bytes`. Written
/// to the message entry by entry, without a copy, as there may be thousands.
struct ListenerList {
  static constexpr const char* kSignature = "aa{sv}";
  const std::vector<Listener>& listeners;
  std::size_t max_bytes;
  void write(MessageWriter& writer) const;
};
/// The `Published` property of a container, limited likewise.
struct PublishedList {
  static constexpr const char* kSignature = "aa{sv}";
  const std::vector<PublishedPorts>& published;
  std::size_t max_bytes;
  void write(MessageWriter& writer) const;
};
/// The remedies of an explanation.
struct RemedyList {
  static constexpr const char* kSignature = "a(sas)";
  const std::vector<Remedy>& remedies;
  void write(MessageWriter& writer) const;
};

/// A property that has the same name in events.
template <class Value>
constexpr auto property(const char* name, Change change, Value value) {
  return fields_detail::row(name, change, name, value);
}

using F = const ForwardInfo&;
inline constexpr std::tuple kForwardProperties{
    property("Id", Change::Never, [](F f) { return bus_text(f.id); }),
    property("Container", Change::Announced,
             [](F f) { return ObjectPath{container_path(f.container_id)}; }),
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
    property("ContainerPath", Change::Never, [](F f) { return bus_text(f.container_path); }),
    property("SocketType", Change::Announced, [](F f) { return bus_text(f.socket_type); }),
    property(
        "HostAddress", Change::Announced,
        [](F f) { return f.host_addresses.empty() ? "" : bus_text(f.host_addresses.front()); }),
    property("HostAddresses", Change::Announced, [](F f) { return bus_texts(f.host_addresses); }),
    property("HostPort", Change::Announced, [](F f) { return f.host_port; }),
    property("HostPath", Change::Announced, [](F f) { return bus_text(f.host_path); }),
    property("Origin", Change::Announced, [](F f) { return std::string(name_of(f.origin)); }),
    property("State", Change::Announced, [](F f) { return std::string(name_of(f.state)); }),
    // In an event, `Reason` is the cause of the event.
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

namespace fields_detail {

/// A list: a property of the object alone, not of events. Changes are found by comparing the member
/// itself, which is cheaper than comparing the values that are sent.
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
        [](C c) { return first_labels(c.info.labels, ContainerView::kAllLabels / c.share); }),
    fields_detail::list(
        "Published", &ContainerInfo::published,
        [](C c) {
          return PublishedList{c.info.published, ContainerView::kAllPublished / c.share};
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

/// Adds to `names` the properties that announce their changes and differ between both Infos.
template <class Table, class Info>
void collect_changes(const Table& table, const Info& before, const Info& after,
                     std::set<std::string>& names) {
  const auto check = [&](const auto& row) {
    if (row.change == Change::Announced && !row.same(before, after)) names.emplace(row.name);
  };
  std::apply([&](const auto&... rows) { (check(rows), ...); }, table);
}

/// Writes the properties of a table that events have.
template <class Table, class Info>
void write_event_properties(const Table& table, const Info& info, MessageWriter& writer) {
  const auto add = [&](const auto& row) {
    if (row.event_name != nullptr) writer.entry(row.event_name, row.value(info));
  };
  std::apply([&](const auto&... rows) { (add(rows), ...); }, table);
}

namespace fields_detail {

[[nodiscard]] constexpr std::uint64_t flag_of(Change change) {
  if (change == Change::Never) return SD_BUS_VTABLE_PROPERTY_CONST;
  if (change == Change::Announced) return SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;
  return 0;
}

template <const auto& Table, class Object, std::size_t I>
int get_property(sd_bus*, const char*, const char*, const char*, sd_bus_message* reply,
                 void* object, sd_bus_error*) noexcept {
  constexpr const auto& row = std::get<I>(Table);
  MessageWriter writer(reply);
  return writer.add(row.value(static_cast<Object*>(object)->view(row.change))).result();
}

template <const auto& Table, class Object, std::size_t I>
sd_bus_vtable vtable_row() {
  constexpr const auto& row = std::get<I>(Table);
  using Value = std::decay_t<decltype(row.value(std::declval<Object&>().view(row.change)))>;
  return SD_BUS_PROPERTY(row.name, kSignatureOf<Value>, (&get_property<Table, Object, I>), 0,
                         flag_of(row.change));
}

}  // namespace fields_detail

/// Appends the properties of a table to a vtable of sd-bus, without its start and end.
/// @tparam Object type of the userdata; its view(Change) returns the Info for a property, given how
/// changes of that property are announced
template <const auto& Table, class Object>
void add_properties(std::vector<sd_bus_vtable>& vtable) {
  constexpr std::size_t size = std::tuple_size_v<std::decay_t<decltype(Table)>>;
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (vtable.push_back(fields_detail::vtable_row<Table, Object, I>()), ...);
  }
  (std::make_index_sequence<size>());
}

// The core's events and facts as D-Bus dictionaries.
/// Estimated size of the properties of an event in a message, in bytes.
[[nodiscard]] std::size_t size_on_bus(const Event& event);
/// Writes the properties of an event, as in the signals and in GetEvents.
void write_event(const Event& event, MessageWriter& writer);
/// Path of the object that an event concerns; kNoPath for a gap.
[[nodiscard]] std::string event_path(const Event& event);

void write_fact(const std::string& key, const Fact& fact, MessageWriter& writer);

}  // namespace portfwd
