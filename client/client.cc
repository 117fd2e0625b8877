#include "client/client.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <tuple>
#include <utility>

#include "base/text.h"
#include "client/connection.h"
#include "client/values.h"

namespace portfwd::client {
namespace {

/// Errors of a bus that mean that no daemon answers.
constexpr std::array<std::string_view, 8> kNoAnswer{
    "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.NoReply",        "org.freedesktop.DBus.Error.Timeout",
    "org.freedesktop.DBus.Error.TimedOut",       "org.freedesktop.DBus.Error.Disconnected",
    "org.freedesktop.DBus.Error.NoServer",       "System.Error.ETIMEDOUT"};
constexpr std::string_view kSpawnFailed = "org.freedesktop.DBus.Error.Spawn.";
constexpr std::string_view kUnitFailed = "org.freedesktop.systemd1.";

std::unique_ptr<sdbus::IConnection> connect(Client::Timeout timeout) {
  try {
    auto bus = sdbus::createSessionBusConnection();
    if (timeout) bus->setMethodCallTimeout(*timeout);
    return bus;
  } catch (const sdbus::Error& e) {
    throw Error(Error::Kind::NoBus, e.getMessage(), e.getName());
  }
}

std::string utf8(const std::string& text) {
  if (!is_utf8(text)) throw Error(Error::Kind::NotUtf8, text);
  return text;
}

Properties options_of(const ForwardRequest& request) {
  Properties options;
  const auto text = [&](const char* key, const std::string& value) {
    if (!value.empty()) options[key] = sdbus::Variant(utf8(value));
  };
  const auto flag = [&](const char* key, bool value) {
    if (value) options[key] = sdbus::Variant(true);
  };
  if (request.host_port) options["host_port"] = sdbus::Variant(*request.host_port);
  text("host", request.host);
  if (request.mode) options["mode"] = sdbus::Variant(*request.mode);
  text("owner", request.owner);
  if (request.peer_uid) options["peer_uid"] = sdbus::Variant(*request.peer_uid);
  flag("create_parents", request.create_parents);
  flag("pass_fds", request.pass_fds);
  text("bind", request.bind);
  text("container_address", request.container_address);
  text("label", request.label);
  text("direction", request.reverse ? "reverse" : "");
  flag("persist", request.persist);
  flag("allow_missing", request.allow_missing);
  return options;
}

template <class Object>
Object decode_object(const std::string& path, const Properties& properties) {
  Object object;
  object.path = path;
  update(object, properties);
  return object;
}

template <class Object>
std::vector<Object> all_objects(Connection& connection, const char* interface) {
  std::vector<Object> found;
  for (const auto& [path, interfaces] : connection.managed_objects()) {
    const auto at = interfaces.find(interface);
    if (at != interfaces.end()) found.push_back(decode_object<Object>(path, at->second));
  }
  return found;
}

template <class Object>
std::optional<Object> one_object(Connection& connection, const sdbus::ObjectPath& path,
                                 const char* interface) {
  const auto properties = connection.properties(path, interface);
  if (!properties) return {};
  return decode_object<Object>(path, *properties);
}

}  // namespace

void throw_error(const sdbus::Error& error) {
  const std::string& name = error.getName();
  const bool no_answer = std::ranges::find(kNoAnswer, name) != kNoAnswer.end() ||
                         name.starts_with(kSpawnFailed) || name.starts_with(kUnitFailed);
  throw Error(no_answer ? Error::Kind::NoAnswer : Error::Kind::Refused, error.getMessage(), name);
}

Connection::Connection(Client::Timeout timeout) : bus_(connect(timeout)), manager_(*bus_) {}

ManagedObjects Connection::managed_objects() {
  ManagedObjects objects;
  manager_.getProxy()
      .callMethod("GetManagedObjects")
      .onInterface("org.freedesktop.DBus.ObjectManager")
      .storeResultsTo(objects);
  return objects;
}

std::optional<Properties> Connection::properties(const sdbus::ObjectPath& path,
                                                 const char* interface) {
  Properties properties;
  try {
    sdbus::createProxy(*bus_, compat::ServiceName(kBusName), path)
        ->callMethod("GetAll")
        .onInterface("org.freedesktop.DBus.Properties")
        .withArguments(std::string(interface))
        .storeResultsTo(properties);
  } catch (const sdbus::Error& e) {
    if (e.getName() == "org.freedesktop.DBus.Error.UnknownObject") return {};
    throw;
  }
  return properties;
}

Client::Client(Timeout timeout) : timeout_(timeout) {
  assert(!timeout || timeout->count() > 0);  // 0 would mean the default of D-Bus
}
Client::~Client() = default;

Connection& Client::connection() {
  if (!connection_) connection_ = std::make_unique<Connection>(timeout_);
  return *connection_;
}

std::vector<Forward> Client::forwards() {
  auto found = exchange([&] { return all_objects<Forward>(connection(), kForwardInterface); });
  std::ranges::sort(found, {}, [](const Forward& f) {
    return std::tie(f.container_name, f.container_port, f.id);
  });
  return found;
}

std::vector<Container> Client::containers() {
  auto found = exchange([&] { return all_objects<Container>(connection(), kContainerInterface); });
  std::ranges::sort(found, {}, [](const Container& c) { return std::tie(c.name, c.id); });
  return found;
}

std::optional<Forward> Client::add_forward(const ForwardRequest& request) {
  return exchange([&] {
    const auto path = connection().manager().Forward(utf8(request.container), utf8(request.target),
                                                     options_of(request));
    return one_object<Forward>(connection(), path, kForwardInterface);
  });
}

std::optional<Container> Client::attach_pid(unsigned pid, const std::string& name) {
  assert(pid != 0);
  return exchange([&] {
    const auto path = connection().manager().AttachPid(pid, utf8(name));
    return one_object<Container>(connection(), path, kContainerInterface);
  });
}

std::optional<Container> Client::attach_netns(const UniqueFd& netns, const std::string& name) {
  assert(netns.valid());
  return exchange([&] {
    const auto path = connection().manager().AttachNetns(sdbus::UnixFd(netns.get()), utf8(name));
    return one_object<Container>(connection(), path, kContainerInterface);
  });
}

void Client::remove_forward(const std::string& path) {
  exchange([&] { connection().manager().Unforward(sdbus::ObjectPath(path)); });
}

void Client::detach(const std::string& path) {
  exchange([&] { connection().manager().Detach(sdbus::ObjectPath(path)); });
}

/// Calls GetEvents until an answer is empty, since each answer may be partial.
std::vector<Event> Client::events_after(std::uint64_t seq) {
  return exchange([&] {
    std::vector<Event> found;
    for (bool more = true; std::exchange(more, false);) {
      for (const auto& row : connection().manager().GetEvents(seq)) {
        Event event = decode_event(row.get<2>(), row.get<3>(), row.get<4>());
        if (event.seq <= seq) continue;  // otherwise a faulty daemon would keep the loop running
        seq = event.seq;
        more = true;
        found.push_back(std::move(event));
      }
    }
    return found;
  });
}

std::map<std::string, Counters> Client::counters() {
  return exchange([&] {
    std::map<std::string, Counters> found;
    for (const auto& row : connection().manager().GetCounters()) {
      found[row.get<0>()] = {row.get<1>(), row.get<2>(), row.get<3>(),
                             row.get<4>(), row.get<5>(), row.get<6>()};
    }
    return found;
  });
}

Explanation Client::explain(const std::string& container, const std::string& target) {
  return exchange([&] {
    return decode_explanation(connection().manager().Explain(utf8(container), utf8(target)));
  });
}

Status Client::status() {
  return exchange([&] { return decode_status(connection().manager().GetStatus()); });
}

void Client::reload() {
  exchange([&] { connection().manager().Reload(); });
}

}  // namespace portfwd::client
