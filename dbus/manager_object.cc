
#include "dbus/manager_object.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <limits>

#include "base/error.h"
#include "base/version.h"
#include "dbus/bus_errors.h"
#include "dbus/fields.h"
#include "dbus/objects.h"
#include "forward/model.h"

namespace portfwd {

namespace {

using sdbus::Variant;

struct Option {
  std::string_view key;
  std::string_view type;  ///< D-Bus signature
  std::string_view meaning;
  void (*apply)(RequestedForward& request, const Variant& value);
};

void apply_host_port(RequestedForward& request, const Variant& value) {
  const auto port = value.get<std::uint16_t>();
  if (port == 0) throw_invalid("option 'host_port' must be 1 to 65535; leave it out for any");
  request.spec.host_port = port;
}

void apply_direction(RequestedForward& request, const Variant& value) {
  const auto name = value.get<std::string>();
  if (name != "in" && name != "reverse") {
    throw_invalid(fmt::format("option 'direction' must be 'in' or 'reverse', not '{}'", name));
  }
  request.spec.direction = name == "in" ? Direction::In : Direction::Reverse;
}

template <auto Member>
void apply_option(RequestedForward& request, const Variant& value) {
  auto& member = request.spec.*Member;
  member = value.get<std::decay_t<decltype(member)>>();
}

constexpr std::array kOptions{
    Option{"host_port", "q", "a port", apply_host_port},
    Option{"bind", "s", "a string", apply_option<&ForwardSpec::bind>},
    Option{"container_address", "s", "a string", apply_option<&ForwardSpec::container_address>},
    Option{"label", "s", "a string", apply_option<&ForwardSpec::label>},
    Option{"persist", "b", "a boolean", apply_option<&ForwardSpec::persist>},
    Option{"allow_missing", "b", "a boolean", apply_option<&ForwardSpec::allow_missing>},
    Option{"direction", "s", "a string", apply_direction},
    Option{"while_connected", "b", "a boolean",
           [](RequestedForward& r, const Variant& v) { r.while_connected = v.get<bool>(); }},
};

std::string known_keys() {
  std::array<std::string_view, kOptions.size()> keys;
  std::ranges::transform(kOptions, keys.begin(), &Option::key);
  return fmt::format("{}", fmt::join(keys, ", "));
}

}  // namespace

RequestedForward parse_forward_options(const Properties& options) {
  RequestedForward request;
  for (const auto& [key, value] : options) {
    const auto* option = std::ranges::find(kOptions, std::string_view(key), &Option::key);
    if (option == kOptions.end()) {
      throw_invalid(fmt::format("unknown option '{}'; known are {}", key, known_keys()));
    }
    if (const std::string type = value.peekValueType(); type != option->type) {
      throw_invalid(fmt::format("option '{}' must be {} (D-Bus type {}), not of type {}", key,
                                option->meaning, option->type, type));
    }
    option->apply(request, value);
  }
  return request;
}

namespace {

/// Of GetEvents: far below what a bus takes (64 MiB and more, org.freedesktop.DBus's limits).
constexpr std::size_t kMostAnswerBytes = 2UL << 20;

/// What a caller gave as a path is told back to it, cut short.
std::string quoted(const std::string& path) {
  return printable(path, 256);
}

std::string forward_id(const std::string& path) {
  if (auto id = id_of_path(kForwardPrefix, path)) return *id;
  throw_refusal({Refusal::Kind::NoSuchForward,
                 fmt::format("{} is no forward's path; see `portfwdctl list`", quoted(path))});
}

std::string container_id(const std::string& path) {
  if (auto id = id_of_path(kContainerPrefix, path)) return *id;
  throw_refusal(
      {Refusal::Kind::NoSuchContainer,
       fmt::format("{} is no container's path; see `portfwdctl containers`", quoted(path))});
}

}  // namespace

ManagerObject::ManagerObject(sdbus::IConnection& connection, Control& control, Lifelines& lifelines)
    : AdaptorInterfaces(connection, sdbus::ObjectPath(kManagerPath)),
      control_(control),
      lifelines_(lifelines) {
  registerAdaptor();
}

void ManagerObject::emit(const Event& event) {
  const sdbus::ObjectPath path(event_path(event));
  const Properties properties = event_properties(event);
  switch (event.type) {
    case Event::Type::PortAdded:
      return emitPortAdded(path, properties);
    case Event::Type::PortRemoved:
      return emitPortRemoved(path, properties);
    case Event::Type::ContainerAdded:
      return emitContainerAdded(path, properties);
    case Event::Type::ContainerRemoved:
      return emitContainerRemoved(path, properties);
    case Event::Type::Gap:
      return;  // only in GetEvents: a listener sees it by the sequence numbers
  }
}

void ManagerObject::set_counts(std::size_t containers, std::size_t forwards) {
  std::vector<std::string> names;
  if (std::exchange(containers_, static_cast<std::uint32_t>(containers)) != containers) {
    names.emplace_back("Containers");
  }
  if (std::exchange(forwards_, static_cast<std::uint32_t>(forwards)) != forwards) {
    names.emplace_back("Forwards");
  }
  if (!names.empty()) compat::emit_changed(getObject(), Manager_adaptor::INTERFACE_NAME, names);
}

sdbus::ObjectPath ManagerObject::Forward(const std::string& container, const std::string& target,
                                         const Properties& options) {
  return guarded([&] {
    RequestedForward request = parse_forward_options(options);
    request.spec.container = container;
    request.spec.target = value_or_throw(check_target(target));
    std::string lifeline;
    if (request.while_connected) {
      lifeline = compat::current_sender(getObject());
      if (!lifelines_.watch(lifeline)) throw_invalid("the caller has left the bus");
    }
    const std::string id = value_or_throw(control_.forward(request.spec, lifeline));
    return sdbus::ObjectPath(forward_path(id));
  });
}

void ManagerObject::Unforward(const sdbus::ObjectPath& forward) {
  guarded([&] { value_or_throw(control_.unforward(forward_id(forward))); });
}

sdbus::ObjectPath ManagerObject::AttachPid(const std::uint32_t& pid, const std::string& name) {
  return guarded([&] {
    if (pid == 0 || pid > std::uint32_t{std::numeric_limits<pid_t>::max()}) {
      throw_invalid(fmt::format("{} is no process id", pid));
    }
    const auto id = value_or_throw(control_.attach_pid(static_cast<pid_t>(pid), name));
    return sdbus::ObjectPath(container_path(id));
  });
}

sdbus::ObjectPath ManagerObject::AttachNetns(const sdbus::UnixFd& netns, const std::string& name) {
  return guarded([&] {
    UniqueFd own(::fcntl(netns.get(), F_DUPFD_CLOEXEC, 0));  // the message keeps its own
    if (!own.valid()) throw_refusal({Refusal::Kind::Failed, fail("fcntl").error().text()});
    const auto id = value_or_throw(control_.attach_netns(std::move(own), name));
    return sdbus::ObjectPath(container_path(id));
  });
}

void ManagerObject::Detach(const sdbus::ObjectPath& container) {
  guarded([&] { value_or_throw(control_.detach(container_id(container))); });
}

/// A caller asks for the rest with the last number that it got.
std::vector<ManagerObject::EventRow> ManagerObject::GetEvents(const std::uint64_t& after_seq) {
  return guarded([&] {
    std::vector<EventRow> rows;
    std::size_t bytes = 0;
    for (const Event& event : control_.events_after(after_seq)) {
      bytes += size_on_bus(event);
      if (bytes > kMostAnswerBytes && !rows.empty()) break;
      rows.emplace_back(event.seq, microseconds(event.time), std::string(name_of(event.type)),
                        sdbus::ObjectPath(event_path(event)), event_properties(event));
    }
    return rows;
  });
}

std::vector<ManagerObject::CountersRow> ManagerObject::GetCounters() {
  return guarded([&] {
    std::vector<CountersRow> rows;
    for (const auto& [id, c] : control_.counters()) {
      rows.emplace_back(sdbus::ObjectPath(forward_path(id)), c.active, c.total, c.failed, c.refused,
                        c.bytes_in, c.bytes_out);
    }
    return rows;
  });
}

Properties ManagerObject::Explain(const std::string& container, const std::string& target) {
  return guarded(
      [&] { return fact_dictionary(value_or_throw(control_.explain(container, target))); });
}

Properties ManagerObject::GetStatus() {
  return guarded([&] {
    Properties facts = fact_dictionary(control_.status());
    facts.insert({{"version", sdbus::Variant(Version())},  // Control's own word comes first
                  {"instance_id", sdbus::Variant(InstanceId())},
                  {"containers", sdbus::Variant(std::int64_t{containers_})},
                  {"forwards", sdbus::Variant(std::int64_t{forwards_})}});
    return facts;
  });
}

void ManagerObject::Reload() {
  guarded([&] { value_or_throw(control_.reload()); });
}

std::string ManagerObject::Version() {
  return std::string(kVersion);
}
std::string ManagerObject::InstanceId() {
  return bus_text(control_.instance_id());
}
std::uint64_t ManagerObject::PollIntervalUSec() {
  return control_.poll_interval_usec();
}

namespace {

/// Calls on a connection are waited for, but no longer than this while it lives: within a request
/// of one caller, a bus that does not answer must not hold up everybody else.
class BriefCalls {
 public:
  static constexpr std::chrono::milliseconds kLongest{200};

  explicit BriefCalls(sdbus::IConnection& connection)
      : connection_(connection), usual_(connection.getMethodCallTimeout()) {
    connection_.setMethodCallTimeout(kLongest);
  }
  BriefCalls(const BriefCalls&) = delete;
  BriefCalls& operator=(const BriefCalls&) = delete;
  ~BriefCalls() { connection_.setMethodCallTimeout(usual_); }

 private:
  sdbus::IConnection& connection_;
  std::uint64_t usual_;  ///< µs
};

}  // namespace

/// First the match, then the question: the bus answers in order, so a caller that left before the
/// match was there is seen by the question, and one that leaves later by the match.
bool Lifelines::watch(const std::string& name) {
  if (matches_.contains(name)) return true;
  const BriefCalls brief(connection_);
  auto match = compat::add_match(
      connection_,
      fmt::format("type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                  "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{}',arg2=''",
                  name),
      [this, name](sdbus::Message&) { end(name); });
  if (!name_has_owner(connection_, name)) return false;
  matches_.emplace(name, std::move(match));
  return true;
}

void Lifelines::end(const std::string& name) {
  over_.push_back(name);  // not erased here: the match's own handler is running
  ended_(name);
}

void Lifelines::forget_ended() {
  for (const std::string& name : std::exchange(over_, {})) matches_.erase(name);
}

bool name_has_owner(sdbus::IConnection& connection, const std::string& name) {
  auto bus = sdbus::createProxy(connection, compat::ServiceName("org.freedesktop.DBus"),
                                sdbus::ObjectPath("/org/freedesktop/DBus"));
  bool owned = false;
  bus->callMethod("NameHasOwner")
      .onInterface("org.freedesktop.DBus")
      .withArguments(name)
      .storeResultsTo(owned);
  return owned;
}

}  // namespace portfwd
