// Values that the daemon sends: forwards, containers, events, status, explanations. A table of
// fields for each kind of object has the D-Bus name and the JSON key of each member. The decoder of
// D-Bus messages and the JSON of portfwdctl use only these tables, so a new property is one member
// and one row.
//
// Enumerations such as `state` or `origin` are strings: org.portfwd1(5) lists their values, and a
// newer daemon may have more. A property that an older daemon does not send keeps the default of
// its member.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/remedy.h"
#include "client/sdbus_compat.h"
#include "net/address.h"

namespace portfwd::client {

/// A row of a table of fields.
template <class Owner, class Value>
struct Field {
  const char* bus;  ///< name of the D-Bus property or dictionary entry
  const char* key;  ///< key in JSON; "container.id" is `id` in the object `container`
  Value Owner::*member;
};

struct Counters {
  std::uint64_t active = 0;
  std::uint64_t total = 0;
  std::uint64_t failed = 0;
  std::uint64_t refused = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
};

struct Forward {
  std::string path;  ///< of its object on the bus
  std::string id;
  std::string container_id;
  std::string container_name;
  std::string container_engine;
  std::string protocol;
  std::string direction;
  std::string target;
  std::string container_address;
  Port container_port = 0;
  std::string container_path;  ///< of a Unix socket, or "@NAME"
  std::string socket_type;     ///< "stream" or "seqpacket"
  std::string host_address;    ///< the first of host_addresses
  std::vector<std::string> host_addresses;
  Port host_port = 0;
  std::string host_path;
  std::string origin;
  std::string state;
  std::string reason;
  std::string label;
  std::string process;
  std::string url;
  WallTime since{};
  std::uint64_t connections_active = 0;
  std::uint64_t connections_total = 0;
  std::uint64_t connections_failed = 0;
  std::uint64_t connections_refused = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  std::string on_auto_forward;

  [[nodiscard]] bool is_reverse() const { return direction == "reverse"; }
};

struct Listener {
  std::string protocol;
  std::string address;
  Port port = 0;
  std::string process;
  std::uint32_t uid = 0;      ///< as seen in the container
  std::string path;           ///< of a Unix socket, or "@" and its abstract name; empty for a port
  std::string type;           ///< of a Unix socket: "stream" or "seqpacket"; empty for a port
  std::uint32_t backlog = 0;  ///< of a Unix socket: clients that may wait; 0 if not known
};

/// Ports that the container's engine forwards itself.
struct PublishedPorts {
  std::string protocol;
  std::string host_address;  ///< empty: all addresses of the host
  Port host_port = 0;
  Port container_port = 0;
  std::uint32_t count = 0;  ///< number of consecutive ports, these two included
};

struct Container {
  std::string path;  ///< of its object on the bus
  std::string id;
  std::string name;
  std::string engine;
  std::uint32_t uid = 0;    ///< of its owner on the host
  std::uint32_t pid = 0;    ///< 0 when the container is known only by its path
  std::uint64_t netns = 0;  ///< inode of its network namespace; 0 when it cannot be read
  std::string image;
  std::map<std::string, std::string> labels;
  std::string state;
  std::string reach;
  std::string reason;
  std::vector<Listener> listeners;
  std::uint32_t listeners_total = 0;  ///< greater than listeners.size() if `listeners` is truncated
  bool ever_listened = false;
  bool attached = false;
  std::string pod;
  std::string project;
  std::string service;
  std::vector<PublishedPorts> published;
};

/// The order of the rows is that of the JSON in portfwdctl(1).
inline constexpr std::tuple kForwardFields{
    Field{"Id", "id", &Forward::id},
    Field{"ContainerId", "container.id", &Forward::container_id},
    Field{"ContainerName", "container.name", &Forward::container_name},
    Field{"ContainerEngine", "container.engine", &Forward::container_engine},
    Field{"Protocol", "protocol", &Forward::protocol},
    Field{"Direction", "direction", &Forward::direction},
    Field{"Target", "target", &Forward::target},
    Field{"ContainerAddress", "container_address", &Forward::container_address},
    Field{"ContainerPort", "container_port", &Forward::container_port},
    Field{"HostAddress", "host_address", &Forward::host_address},
    Field{"HostAddresses", "host_addresses", &Forward::host_addresses},
    Field{"HostPort", "host_port", &Forward::host_port},
    Field{"Origin", "origin", &Forward::origin},
    Field{"State", "state", &Forward::state},
    Field{"Reason", "reason", &Forward::reason},
    Field{"Label", "label", &Forward::label},
    Field{"Process", "process", &Forward::process},
    Field{"Url", "url", &Forward::url},
    Field{"Since", "since", &Forward::since},
    Field{"ConnectionsActive", "connections.active", &Forward::connections_active},
    Field{"ConnectionsTotal", "connections.total", &Forward::connections_total},
    Field{"ConnectionsFailed", "connections.failed", &Forward::connections_failed},
    Field{"ConnectionsRefused", "connections.refused", &Forward::connections_refused},
    Field{"BytesIn", "bytes.in", &Forward::bytes_in},
    Field{"BytesOut", "bytes.out", &Forward::bytes_out},
    Field{"OnAutoForward", "on_auto_forward", &Forward::on_auto_forward},
    Field{"ContainerPath", "container_path", &Forward::container_path},
    Field{"SocketType", "socket_type", &Forward::socket_type},
    Field{"HostPath", "host_path", &Forward::host_path},
};
inline constexpr std::tuple kListenerFields{
    Field{"Protocol", "protocol", &Listener::protocol},
    Field{"Address", "address", &Listener::address},
    Field{"Port", "port", &Listener::port},
    Field{"Process", "process", &Listener::process},
    Field{"Uid", "uid", &Listener::uid},
    Field{"Path", "path", &Listener::path},
    Field{"Type", "type", &Listener::type},
    Field{"Backlog", "backlog", &Listener::backlog},
};
inline constexpr std::tuple kPublishedFields{
    Field{"Protocol", "protocol", &PublishedPorts::protocol},
    Field{"HostAddress", "host_address", &PublishedPorts::host_address},
    Field{"HostPort", "host_port", &PublishedPorts::host_port},
    Field{"ContainerPort", "container_port", &PublishedPorts::container_port},
    Field{"Count", "count", &PublishedPorts::count},
};
inline constexpr std::tuple kContainerFields{
    Field{"Id", "id", &Container::id},
    Field{"Name", "name", &Container::name},
    Field{"Engine", "engine", &Container::engine},
    Field{"Uid", "uid", &Container::uid},
    Field{"Pid", "pid", &Container::pid},
    Field{"Netns", "netns", &Container::netns},
    Field{"Image", "image", &Container::image},
    Field{"Labels", "labels", &Container::labels},
    Field{"State", "state", &Container::state},
    Field{"Reach", "reach", &Container::reach},
    Field{"Reason", "reason", &Container::reason},
    Field{"Listeners", "listeners", &Container::listeners},
    Field{"ListenersTotal", "listeners_total", &Container::listeners_total},
    Field{"EverListened", "ever_listened", &Container::ever_listened},
    Field{"Attached", "attached", &Container::attached},
    Field{"Pod", "pod", &Container::pod},
    Field{"Project", "project", &Container::project},
    Field{"Service", "service", &Container::service},
    Field{"Published", "published", &Container::published},
};

constexpr const auto& fields_of(const Forward&) {
  return kForwardFields;
}
constexpr const auto& fields_of(const Listener&) {
  return kListenerFields;
}
constexpr const auto& fields_of(const PublishedPorts&) {
  return kPublishedFields;
}
constexpr const auto& fields_of(const Container&) {
  return kContainerFields;
}

/// Calls visit(field, value.*member) for each row of the table of `value`.
template <class Object, class Visit>
void for_each_field(Object& value, Visit&& visit) {
  std::apply([&](const auto&... field) { (visit(field, value.*field.member), ...); },
             fields_of(value));
}

struct Event {
  std::uint64_t seq = 0;  ///< without gaps within one instance of the daemon
  WallTime time{};
  std::string type;    ///< "PortAdded", "PortRemoved", "ContainerAdded", "ContainerRemoved", "Gap"
  std::string reason;  ///< why the forward or container was removed
  std::uint32_t batch_size = 0;   ///< number of forwards found by the same poll
  std::uint32_t batch_index = 0;  ///< 0 to batch_size - 1
  /// std::monostate for a gap. A container in an event has no labels, listeners or published ports.
  std::variant<std::monostate, Forward, Container> subject;
};

/// std::monostate for a type that this library does not know.
using Fact = std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double, std::string,
                          std::vector<std::string>>;
/// Facts by key. portfwdctl(1) lists the keys; a newer daemon may have more.
using Facts = std::map<std::string, Fact, std::less<>>;

/// One of the alternative remedies of an explanation.
struct Remedy {
  std::string name;                ///< of the code; org.portfwd1(5) lists them
  std::optional<RemedyCode> code;  ///< none if this library does not know it or its arguments
  std::vector<std::string> arguments;
};

/// Why a port is or is not forwarded.
struct Explanation {
  bool forwarded = false;
  std::string summary;
  std::string remedy;            ///< the remedies as a sentence that names no command line
  std::vector<Remedy> remedies;  ///< empty for an older daemon
  Facts facts;                   ///< all facts but the remedies, including the texts above
};

struct Status {
  std::string version;
  std::string instance_id;          ///< changes when the numbers of events start again at 1
  std::string descriptor_shortage;  ///< "none", or what waits for descriptors
  std::string descriptor_remedy;
  Facts facts;  ///< all facts, including the members above
};

// Decoders of D-Bus dictionaries. Entries of an unexpected type are ignored.
/// Updates the members whose properties are present; the others keep their values.
void update(Forward& forward, const Properties& properties);
void update(Container& container, const Properties& properties);

/// @param path of the object that the event concerns
/// @param properties in which Reason is that of the event, and StateReason that of the object
[[nodiscard]] Event decode_event(const std::string& type, const std::string& path,
                                 const Properties& properties);

[[nodiscard]] Explanation decode_explanation(const Properties& facts);
[[nodiscard]] Status decode_status(const Properties& facts);

}  // namespace portfwd::client
