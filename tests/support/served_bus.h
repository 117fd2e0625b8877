// Fixture of the bus tests: a private bus that is this process's session bus, and the daemon's bus
// objects on it with a FakeControl, all in one loop.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include "dbus/bus_service.h"
#include "event/event_loop.h"
#include "support/fake_control.h"
#include "support/private_bus.h"

namespace portfwd::testing_support {

class ServedBusTest : public testing::Test {
 protected:
  ServedBusTest() { ::setenv("DBUS_SESSION_BUS_ADDRESS", bus_.address().c_str(), 1); }
  ~ServedBusTest() override { ::unsetenv("DBUS_SESSION_BUS_ADDRESS"); }

  auto connect(Control& control) {
    return connect_bus(loop_, control, BusKind::Session,
                       [this](const std::string& why) { lost_ = why; });
  }

  void serve() {
    auto service = connect(control_);
    ASSERT_TRUE(service) << service.error().text;
    service_ = std::move(*service);
    control_.observer = service_.get();
    const auto published = service_->publish();
    ASSERT_TRUE(published) << published.error().text;
  }

  PrivateBus bus_;
  SystemClock clock_;
  EventLoop loop_{clock_};
  FakeControl control_;
  std::optional<std::string> lost_;  ///< the reason, once the bus is lost
  std::unique_ptr<BusService> service_;
};

}  // namespace portfwd::testing_support
