#include "api/journal.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"

namespace portfwd {

namespace {

log::Fields fields_of(const ForwardInfo& f, std::string_view message_id) {
  return {{"MESSAGE_ID", std::string(message_id)},
          {"PORTFWD_CONTAINER", f.container_name},
          {"PORTFWD_CONTAINER_ID", f.container_id},
          {"PORTFWD_PORT", std::to_string(f.container_port)},
          {"PORTFWD_PROTOCOL", std::string(name_of(f.protocol))},
          {"PORTFWD_HOST_PORT", std::to_string(f.host_port)},
          {"PORTFWD_FORWARD", f.id},
          {"PORTFWD_PROCESS", f.process}};
}

log::Fields fields_of(const ContainerInfo& c, std::string_view message_id) {
  return {{"MESSAGE_ID", std::string(message_id)},
          {"PORTFWD_CONTAINER", c.name},
          {"PORTFWD_CONTAINER_ID", c.id},
          {"PORTFWD_ENGINE", c.engine}};
}

/// "web port 8080 is at 127.0.0.1:8080", "web port 5432 leads to 127.0.0.1:5432".
std::string sentence(const ForwardInfo& f, std::string_view in, std::string_view reverse) {
  return fmt::format("{} port {} {} {}:{}", f.container_name, f.target,
                     f.direction == Direction::In ? in : reverse, f.host_addresses.front(),
                     f.host_port);
}

bool is_open_to_others(const ForwardInfo& f) {
  return f.direction == Direction::In &&
         std::ranges::any_of(f.host_addresses, [](const std::string& address) {
           return !IpAddress::parse(address).value_or(IpAddress()).is_loopback();
         });
}

void tell_added(const ForwardInfo& f) {
  const auto id = f.remapped ? log::message_id::kPortRemapped : log::message_id::kPortAdded;
  const std::string why = f.remapped ? fmt::format(" ({})", f.reason) : "";
  log::write(log::Level::Notice, sentence(f, "is at", "leads to") + why, fields_of(f, id));
  if (is_open_to_others(f)) {
    log::write(log::Level::Warning,
               fmt::format("{}: other machines can connect to it, as allow_remote has it",
                           sentence(f, "is at", "leads to")),
               fields_of(f, log::message_id::kOpenToOthers));
  }
}

void tell_removed(const ForwardInfo& f, std::string_view reason) {
  log::write(log::Level::Notice,
             fmt::format("{}: {}", sentence(f, "is no longer at", "no longer leads to"), reason),
             fields_of(f, log::message_id::kPortRemoved));
}

std::string_view remedy_of_conflict(const ForwardInfo& f) {
  if (const std::string_view remedy = remedy_of(f); !remedy.empty()) return remedy;
  return f.direction == Direction::In ? "free the port, or widen [host] fallback_range"
                                      : "free the port inside, and it is taken within seconds";
}

void tell_container(const ContainerInfo& c, bool added, std::string_view reason) {
  const auto id = added ? log::message_id::kContainerAdded : log::message_id::kContainerRemoved;
  const std::string why = reason.empty() ? "" : fmt::format(": {}", reason);
  log::write(log::Level::Info,
             fmt::format("container {} {}{}", c.name, added ? "found" : "gone", why),
             fields_of(c, id));
}

}  // namespace

/// Only a conflict is worth a line: there is no event for a forward that has no host port.
void Journal::on_forward_changed(const ForwardInfo& f) {
  if (f.state != ForwardState::Conflict) return;
  log::write(log::Level::Warning,
             fmt::format("{} port {} is not forwarded: {}; {}", f.container_name, f.target,
                         f.reason, remedy_of_conflict(f)),
             fields_of(f, log::message_id::kPortConflict));
}

void Journal::on_event(const Event& event) {
  const auto* forward = std::get_if<ForwardInfo>(&event.subject);
  const auto* container = std::get_if<ContainerInfo>(&event.subject);
  switch (event.type) {
    case Event::Type::PortAdded:
      return tell_added(*forward);
    case Event::Type::PortRemoved:
      return tell_removed(*forward, event.reason);
    case Event::Type::ContainerAdded:
      return tell_container(*container, true, container->reason);
    case Event::Type::ContainerRemoved:
      return tell_container(*container, false, event.reason);
    case Event::Type::Gap:
      return;
  }
}

}  // namespace portfwd
