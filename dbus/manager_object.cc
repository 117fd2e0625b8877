#include "dbus/manager_object.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <limits>

#include "base/error.h"
#include "base/version.h"
#include "dbus/bus_errors.h"
#include "dbus/bus_text.h"
#include "dbus/fields.h"
#include "dbus/forward_options.h"
#include "dbus/object_paths.h"
#include "dbus/properties.h"
#include "forward/forward_request.h"

namespace portfwd {
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

}  // namespace portfwd
