#include "dbus/bus_exports.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "dbus/objects.h"

namespace portfwd {
namespace {

/// A signal that can't be sent (a full queue, a connection that has just gone) is no reason to
/// stop: the lost connection is found by the source, and a listener sees the gap by the numbers.
template <class Send>
void send(const char* what, Send&& signal) {
  try {
    signal();
  } catch (const sdbus::Error& e) {
    log::warning("cannot send {} on the bus: {}", what, e.what());
  }
}

/// Withdraws an object from the bus and keeps it until nobody can be inside it.
template <class Object>
void withdraw(std::map<std::string, std::unique_ptr<Object>>& objects, const std::string& id,
              std::vector<std::unique_ptr<Object>>& gone) {
  auto node = objects.extract(id);
  if (node.empty()) return;
  send("InterfacesRemoved", [&] { node.mapped()->emitInterfacesRemovedSignal(); });
  gone.push_back(std::move(node.mapped()));
}

template <class Object>
void flush(std::map<std::string, std::unique_ptr<Object>>& objects,
           std::set<std::string>& changed) {
  for (const std::string& id : std::exchange(changed, {})) {
    if (auto at = objects.find(id); at != objects.end()) {
      send("PropertiesChanged", [&] { at->second->flush(); });
    }
  }
}

std::unexpected<Refusal> name_taken() {
  return refuse(Refusal::Kind::AlreadyRunning, "another portfwd owns org.portfwd1 on this bus");
}

}  // namespace

BusExports::BusExports(EventLoop& loop, Control& control,
                       std::unique_ptr<sdbus::IConnection> connection, Lost lost)
    : control_(control),
      lost_(std::move(lost)),
      connection_(std::move(connection)),
      source_(loop, *connection_, *this),
      lifelines_(*connection_, [this](const std::string& name) { control_.lifeline_ended(name); }) {
}

BusExports::~BusExports() {
  if (!live()) return;
  try {  // first the name: nobody is to find it without its objects
    connection_->releaseName(compat::ServiceName(kBusName));
  } catch (const sdbus::Error& e) {
    log::debug("cannot release {}: {}", kBusName, e.what());
  }
}

Answer<void> BusExports::publish() {
  try {
    export_everything();
    connection_->requestName(compat::ServiceName(kBusName));  // neither queued nor replaceable
    return {};
  } catch (const sdbus::Error& e) {
    manager_.reset();
    if (e.getName() == "org.freedesktop.DBus.Error.FileExists") return name_taken();
    return refuse(Refusal::Kind::Failed,
                  fmt::format("cannot own {} on the bus: {}", kBusName, e.what()));
  }
}

void BusExports::export_everything() {
  manager_.emplace(*connection_, control_, lifelines_);
  for (const ContainerInfo& info : control_.containers()) on_container_added(info);
  for (const ForwardInfo& info : control_.forwards()) on_forward_added(info);
  manager_->set_counts(containers_.size(), forwards_.size());
}

void BusExports::on_forward_added(const ForwardInfo& forward) {
  if (!live()) return;
  send("InterfacesAdded", [&] {
    auto object = std::make_unique<ForwardObject>(*connection_, control_, forward);
    forwards_.insert_or_assign(forward.id, std::move(object))
        .first->second->emitInterfacesAddedSignal();
  });
}

void BusExports::on_forward_changed(const ForwardInfo& forward) {
  const auto at = forwards_.find(forward.id);
  if (at == forwards_.end()) return;
  at->second->update(forward);
  changed_forwards_.insert(forward.id);
}

void BusExports::on_forward_removed(const ForwardInfo& forward) {
  if (live()) withdraw(forwards_, forward.id, gone_forwards_);
}

void BusExports::on_container_added(const ContainerInfo& container) {
  if (!live()) return;
  send("InterfacesAdded", [&] {
    share_ = containers_.size() + 1;
    auto object = std::make_unique<ContainerObject>(*connection_, container, share_);
    containers_.insert_or_assign(container.id, std::move(object))
        .first->second->emitInterfacesAddedSignal();
  });
}

void BusExports::on_container_changed(const ContainerInfo& container) {
  const auto at = containers_.find(container.id);
  if (at == containers_.end()) return;
  at->second->update(container);
  changed_containers_.insert(container.id);
}

void BusExports::on_container_removed(const ContainerInfo& container) {
  if (!live()) return;
  withdraw(containers_, container.id, gone_containers_);
  share_ = std::max<std::size_t>(containers_.size(), 1);
}

void BusExports::on_event(const Event& event) {
  if (live()) send("an event", [&] { manager_->emit(event); });
}

void BusExports::after_message() {
  gone_forwards_.clear();
  gone_containers_.clear();
  lifelines_.forget_ended();
}

void BusExports::before_bus_wait() {
  after_message();  // objects also go without any message
  if (!manager_) return;
  flush(forwards_, changed_forwards_);
  flush(containers_, changed_containers_);
  send("PropertiesChanged", [&] { manager_->set_counts(containers_.size(), forwards_.size()); });
}

void BusExports::on_bus_lost(const std::string& why) {
  lost_(why);
}

Answer<std::unique_ptr<BusService>> connect_bus(
    EventLoop& loop, Control& control, BusKind kind,
    std::move_only_function<void(const std::string& why)> lost) {
  const bool session = kind == BusKind::Session;
  try {
    auto connection =
        session ? sdbus::createSessionBusConnection() : sdbus::createSystemBusConnection();
    // sdbus-c++ makes a connection for all variants with the first one: now there are descriptors.
    const sdbus::Variant first(std::int64_t{0});
    if (name_has_owner(*connection, kBusName)) return name_taken();
    return std::make_unique<BusExports>(loop, control, std::move(connection), std::move(lost));
  } catch (const sdbus::Error& e) {
    return refuse(Refusal::Kind::Failed,
                  fmt::format("cannot connect to the {} bus: {}; {}",
                              session ? "session" : "system", e.what(),
                              session ? "set DBUS_SESSION_BUS_ADDRESS, or start portfwd by "
                                        "`dbus-run-session -- portfwd`"
                                      : "is dbus running?"));
  }
}

}  // namespace portfwd
