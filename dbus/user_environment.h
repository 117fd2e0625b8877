// The environment of the user's service manager, which has the variables of the present session: an
// ssh-agent or a compositor that was started later sets its variable there. Owned by main. Without
// a manager on the bus, and for variables that it does not have, the daemon's own environment
// counts. Source: org.freedesktop.systemd1(5), property Environment.
#pragma once

#include <memory>

#include "dbus/message.h"
#include "event/event_loop.h"
#include "relay/host_socket_dialer.h"

namespace portfwd {

class ManagerEnvironment final : public UserEnvironment {
 public:
  explicit ManagerEnvironment(EventLoop& loop) : loop_(loop) {}

  /// Reads from the manager on this bus from now on. @param bus borrowed; must outlive each Read
  void use(sd_bus* bus) { bus_ = bus; }

  [[nodiscard]] std::unique_ptr<Read> read(OnRead on_read) override;

 private:
  class ManagerRead;

  EventLoop& loop_;
  sd_bus* bus_ = nullptr;
};

}  // namespace portfwd
