#include "dbus/bus_service.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"

namespace portfwd {
namespace {

/// The longest wait for an answer of the bus while the daemon shuts down.
constexpr std::uint64_t kReleaseTimeout = 1'000'000;  // µs

std::unexpected<Refusal> name_taken() {
  return refuse(Refusal::Kind::AlreadyRunning,
                "another portfwd owns org.portfwd1 on this bus; stop it first, for example with "
                "`systemctl --user stop portfwd`");
}

}  // namespace

BusService::BusService(EventLoop& loop, Control& control, BusPtr bus, Lost lost)
    : control_(control),
      bus_(std::move(bus)),
      source_(loop, bus_.get(),
              {.before_wait = [this] { before_wait(); }, .on_lost = std::move(lost)}),
      lifelines_(bus_.get(), [this](const std::string& name) { control_.lifeline_ended(name); }),
      forwards_(bus_.get()),
      containers_(bus_.get()) {}

/// Releases the name first, so that no client finds the name without its objects. The answer also
/// confirms that the bus has received all signals sent before.
BusService::~BusService() {
  if (live()) {
    ::sd_bus_set_method_call_timeout(bus_.get(), kReleaseTimeout);
    if (const int r = ::sd_bus_release_name(bus_.get(), kBusName); r < 0) {
      log::debug("cannot release {}: {}", kBusName, Error{-r, "sd_bus_release_name"}.text());
    }
  }
  ::sd_bus_close(bus_.get());
}

Answer<void> BusService::publish() {
  if (const auto exported = export_everything(); !exported) {
    manager_.reset();
    return refuse(Refusal::Kind::Failed,
                  fmt::format("cannot export objects on the bus: {}", exported.error().text()));
  }
  const int r = ::sd_bus_request_name(bus_.get(), kBusName, 0);  // neither queued nor replaceable
  if (r >= 0) return {};
  manager_.reset();
  if (r == -EEXIST) return name_taken();
  return refuse(Refusal::Kind::Failed,
                fmt::format("cannot acquire the name {} on the bus: {}", kBusName,
                            Error{-r, "sd_bus_request_name"}.text()));
}

Result<void> BusService::export_everything() {
  manager_.emplace(bus_.get(), control_, lifelines_);
  if (auto made = manager_->publish(); !made) return made;
  if (auto made = containers_.publish(); !made) return made;
  if (auto made = forwards_.publish(); !made) return made;
  for (const ContainerInfo& info : control_.containers()) on_container_added(info);
  for (const ForwardInfo& info : control_.forwards()) on_forward_added(info);
  manager_->set_counts(containers_.size(), forwards_.size());
  return {};
}

void BusService::on_forward_added(const ForwardInfo& forward) {
  if (live()) forwards_.add(forward_path(forward.id), control_, forward);
}

void BusService::on_forward_changed(const ForwardInfo& forward) {
  forwards_.update(forward_path(forward.id), forward);
  if (live()) manager_->on_forward(forward);
}

void BusService::on_forward_removed(const ForwardInfo& forward) {
  if (!live()) return;
  forwards_.remove(forward_path(forward.id));
  manager_->on_forward(forward);
}

void BusService::on_container_added(const ContainerInfo& container) {
  if (!live()) return;
  share_ = containers_.size() + 1;
  containers_.add(container_path(container.id), share_, container);
}

void BusService::on_container_changed(const ContainerInfo& container) {
  containers_.update(container_path(container.id), container);
}

void BusService::on_container_removed(const ContainerInfo& container) {
  if (!live()) return;
  containers_.remove(container_path(container.id));
  share_ = std::max<std::size_t>(containers_.size(), 1);
}

void BusService::on_event(const Event& event) {
  if (live()) manager_->emit(event);
}

void BusService::before_wait() {
  if (!manager_) return;
  forwards_.flush();
  containers_.flush();
  manager_->set_counts(containers_.size(), forwards_.size());
}

Answer<std::unique_ptr<BusService>> connect_bus(
    EventLoop& loop, Control& control, BusKind kind,
    std::move_only_function<void(const std::string& why)> lost) {
  const bool session = kind == BusKind::Session;
  const auto failed = [session](const Error& error) {
    return refuse(Refusal::Kind::Failed,
                  fmt::format("cannot connect to the {} bus: {}; {}",
                              session ? "session" : "system", error.text(),
                              session ? "set DBUS_SESSION_BUS_ADDRESS, or start portfwd by "
                                        "`dbus-run-session -- portfwd`"
                                      : "check that dbus is running"));
  };
  sd_bus* made = nullptr;
  const int r = session ? ::sd_bus_open_user(&made) : ::sd_bus_open_system(&made);
  if (r < 0) return failed({-r, session ? "sd_bus_open_user" : "sd_bus_open_system"});
  BusPtr bus(made);
  const auto owned = name_has_owner(bus.get(), kBusName);
  if (!owned) return failed(owned.error());
  if (*owned) return name_taken();
  return std::make_unique<BusService>(loop, control, std::move(bus), std::move(lost));
}

}  // namespace portfwd
