#include "ctl/client.h"

#include <fmt/format.h>
#include <manager_proxy.h>

#include <algorithm>
#include <array>

#include "base/text.h"
#include "ctl/bus_json.h"
#include "ctl/failure.h"

namespace portfwd::ctl {
namespace {

constexpr const char* kBusName = "org.portfwd1";
constexpr const char* kManagerPath = "/org/portfwd1";
constexpr const char* kForwardInterface = "org.portfwd1.Forward";
constexpr const char* kContainerInterface = "org.portfwd1.Container";
constexpr std::string_view kRemedy = "start it with `systemctl --user start portfwd`";

/// Errors by which a bus says that nobody is there to answer.
constexpr std::array<std::string_view, 8> kNobody{
    "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.NoReply",        "org.freedesktop.DBus.Error.Timeout",
    "org.freedesktop.DBus.Error.TimedOut",       "org.freedesktop.DBus.Error.Disconnected",
    "org.freedesktop.DBus.Error.NoServer",       "System.Error.ETIMEDOUT"};
constexpr std::string_view kSpawnFailed = "org.freedesktop.DBus.Error.Spawn.";
constexpr std::string_view kUnitFailed = "org.freedesktop.systemd1.";

[[noreturn]] void fail(const sdbus::Error& error) {
  const std::string_view name = error.getName();
  const bool nobody = std::ranges::find(kNobody, name) != kNobody.end() ||
                      name.starts_with(kSpawnFailed) || name.starts_with(kUnitFailed);
  if (!nobody) throw Failure(Status::Failed, error.getMessage());
  throw Failure(Status::NoDaemon,
                fmt::format("the daemon does not answer ({}); {}", error.getMessage(), kRemedy));
}

/// Runs one exchange with the daemon.
template <class Exchange>
auto ask(Exchange&& exchange) {
  try {
    return exchange();
  } catch (const sdbus::Error& e) {
    fail(e);
  }
}

std::unique_ptr<sdbus::IConnection> connect(std::optional<std::chrono::microseconds> timeout) {
  try {
    auto bus = sdbus::createSessionBusConnection();
    if (timeout) bus->setMethodCallTimeout(*timeout);
    return bus;
  } catch (const sdbus::Error& e) {
    throw Failure(
        Status::NoDaemon,
        fmt::format("no session bus ({}); is DBUS_SESSION_BUS_ADDRESS set?", e.getMessage()));
  }
}

/// The generated proxy; its signals are only asked for by register_signals().
class Manager final : public sdbus::ProxyInterfaces<org::portfwd1::Manager_proxy> {
 public:
  using OnEvent = std::function<void(const char* type, const Properties& properties)>;

  Manager(sdbus::IConnection& bus, OnEvent on_event)
      : ProxyInterfaces(bus, compat::ServiceName(kBusName), sdbus::ObjectPath(kManagerPath)),
        on_event_(std::move(on_event)) {}

  using ProxyObjectHolder::getProxy;

 private:
  void onPortAdded(const sdbus::ObjectPath&, const Properties& p) override {
    on_event_("PortAdded", p);
  }
  void onPortRemoved(const sdbus::ObjectPath&, const Properties& p) override {
    on_event_("PortRemoved", p);
  }
  void onContainerAdded(const sdbus::ObjectPath&, const Properties& p) override {
    on_event_("ContainerAdded", p);
  }
  void onContainerRemoved(const sdbus::ObjectPath&, const Properties& p) override {
    on_event_("ContainerRemoved", p);
  }

  OnEvent on_event_;
};

/// A bus carries no other text.
std::string bus_text(std::string text) {
  if (is_utf8(text)) return text;
  throw Failure(Status::Usage,
                fmt::format("'{}' is not UTF-8; a container can be named by its id", echo(text)));
}

Properties options_of(const ForwardRequest& request) {
  Properties options;
  const auto text = [&](const char* key, const std::string& value) {
    if (!value.empty()) options[key] = sdbus::Variant(bus_text(value));
  };
  const auto flag = [&](const char* key, bool value) {
    if (value) options[key] = sdbus::Variant(true);
  };
  if (request.host_port) options["host_port"] = sdbus::Variant(*request.host_port);
  text("bind", request.bind);
  text("container_address", request.container_address);
  text("label", request.label);
  text("direction", request.reverse ? "reverse" : "");
  flag("persist", request.persist);
  flag("allow_missing", request.allow_missing);
  return options;
}

}  // namespace

class Client::Connection {
 public:
  explicit Connection(std::optional<std::chrono::microseconds> timeout)
      : bus_(connect(timeout)),
        manager_(*bus_, [this](const char* type, const Properties& p) { signalled(type, p); }) {}

  Manager& manager() { return manager_; }

  std::vector<Object> objects(const char* interface, Json (*to_json)(const Properties&)) {
    std::map<sdbus::ObjectPath, std::map<std::string, Properties>> managed;
    manager_.getProxy()
        .callMethod("GetManagedObjects")
        .onInterface("org.freedesktop.DBus.ObjectManager")
        .storeResultsTo(managed);
    std::vector<Object> found;
    for (const auto& [path, interfaces] : managed) {
      const auto at = interfaces.find(interface);
      if (at != interfaces.end()) found.push_back({path, to_json(at->second)});
    }
    return found;
  }

  Object object(const std::string& path, const char* interface,
                Json (*to_json)(const Properties&)) {
    for (Object& one : objects(interface, to_json)) {
      if (one.path == path) return std::move(one);
    }
    return {path, nullptr};
  }

  /// First the subscription, then the past: what happens in between is seen twice and told once.
  [[noreturn]] void follow(std::uint64_t after, const std::function<void(const Json&)>& on_event) {
    last_ = after;
    tell_ = &on_event;
    const auto gone = compat::add_match(
        *bus_,
        fmt::format("type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',"
                    "arg0='{}',arg2=''",
                    kBusName),
        [this](sdbus::Message&) { bus_->leaveEventLoop(); });
    manager_.registerProxy();
    catch_up();
    bus_->enterEventLoop();
    throw Failure(Status::NoDaemon, fmt::format("the daemon has gone; {}", kRemedy));
  }

 private:
  void catch_up() {
    auto part = manager_.GetEvents(last_);
    while (!part.empty()) {
      for (const auto& event : part) tell(event_json(event.get<2>(), event.get<4>()));
      try {
        part = manager_.GetEvents(last_);
      } catch (const sdbus::Error&) {
        return;  // the daemon has just gone, which follow() hears of
      }
    }
  }

  void signalled(const char* type, const Properties& properties) {
    const Json event = event_json(type, properties);
    if (event["seq"] > last_ + 1) catch_up();  // a signal was lost; the log has it
    tell(event);
  }

  void tell(const Json& event) {
    const auto seq = event["seq"].get<std::uint64_t>();
    if (seq <= last_) return;
    last_ = seq;
    (*tell_)(event);
  }

  std::unique_ptr<sdbus::IConnection> bus_;
  Manager manager_;
  std::uint64_t last_ = 0;
  const std::function<void(const Json&)>* tell_ = nullptr;
};

Client::Client(std::optional<std::chrono::microseconds> timeout) : timeout_(timeout) {}
Client::~Client() = default;

Client::Connection& Client::daemon() {
  if (!connection_) connection_ = std::make_unique<Connection>(timeout_);
  return *connection_;
}

std::vector<Object> Client::forwards() {
  auto found = ask([&] { return daemon().objects(kForwardInterface, forward_json); });
  std::ranges::sort(found, {}, [](const Object& o) {
    return std::tuple(o.value["container"]["name"].get<std::string>(),
                      o.value["container_port"].get<unsigned>(), o.value["id"].get<std::string>());
  });
  return found;
}

std::vector<Object> Client::containers() {
  auto found = ask([&] { return daemon().objects(kContainerInterface, container_json); });
  std::ranges::sort(found, {}, [](const Object& o) {
    return std::pair(o.value["name"].get<std::string>(), o.value["id"].get<std::string>());
  });
  return found;
}

Object Client::forward(const ForwardRequest& request) {
  return ask([&] {
    const auto path = daemon().manager().Forward(bus_text(request.container),
                                                 bus_text(request.target), options_of(request));
    return daemon().object(path, kForwardInterface, forward_json);
  });
}

Object Client::attach_pid(unsigned pid, const std::string& name) {
  return ask([&] {
    const auto path = daemon().manager().AttachPid(pid, bus_text(name));
    return daemon().object(path, kContainerInterface, container_json);
  });
}

Object Client::attach_netns(const UniqueFd& netns, const std::string& name) {
  return ask([&] {
    const auto path = daemon().manager().AttachNetns(sdbus::UnixFd(netns.get()), bus_text(name));
    return daemon().object(path, kContainerInterface, container_json);
  });
}

void Client::unforward(const std::string& path) {
  ask([&] { daemon().manager().Unforward(sdbus::ObjectPath(path)); });
}

void Client::detach(const std::string& path) {
  ask([&] { daemon().manager().Detach(sdbus::ObjectPath(path)); });
}

std::vector<Json> Client::events(std::uint64_t after) {
  return ask([&] {
    std::vector<Json> found;
    for (bool more = true; std::exchange(more, false);) {  // an answer may be a part
      for (const auto& event : daemon().manager().GetEvents(after)) {
        found.push_back(event_json(event.get<2>(), event.get<4>()));
        more = true;
      }
      if (more) after = found.back()["seq"].get<std::uint64_t>();
    }
    return found;
  });
}

Json Client::explain(const std::string& container, const std::string& target) {
  return ask([&] {
    return facts_json(daemon().manager().Explain(bus_text(container), bus_text(target)));
  });
}

Json Client::status() {
  return ask([&] { return facts_json(daemon().manager().GetStatus()); });
}

void Client::reload() {
  ask([&] { daemon().manager().Reload(); });
}

void Client::follow(std::uint64_t after, const std::function<void(const Json&)>& on_event) {
  ask([&] { daemon().follow(after, on_event); });
  std::unreachable();
}

}  // namespace portfwd::ctl
