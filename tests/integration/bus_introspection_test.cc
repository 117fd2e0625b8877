// The XML in dbus/, against which programs are written: it must equal the introspection of the
// running objects.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "build_paths.h"
#include "dbus/bus_service.h"
#include "support/bus_client.h"
#include "support/fake_control.h"
#include "support/introspection.h"
#include "support/private_bus.h"

namespace portfwd {
namespace {

using namespace testing_support;

std::string shipped(const std::string& interface) {
  std::ifstream file(PORTFWD_SOURCE_DIR "/dbus/" + interface + ".xml");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(BusIntrospectionTest, TheShippedXmlIsWhatTheObjectsSay) {
  const PrivateBus bus;
  ::setenv("DBUS_SESSION_BUS_ADDRESS", bus.address().c_str(), 1);
  const SystemClock clock;
  EventLoop loop(clock);
  FakeControl control;
  control.all_forwards = {web_forward("f1")};
  control.all_containers = {web_container("c1")};
  auto service = connect_bus(loop, control, BusKind::Session, [](const std::string&) {});
  ASSERT_TRUE(service) << service.error().text;
  ASSERT_TRUE((*service)->publish());
  BusClient client(loop, bus.address());
  for (const auto& [path, interface] :
       {std::pair<std::string, std::string>{"/org/portfwd1", "org.portfwd1.Manager"},
        {"/org/portfwd1/forward/f1", "org.portfwd1.Forward"},
        {"/org/portfwd1/container/c1", "org.portfwd1.Container"}}) {
    const auto said = client.call(path, "org.freedesktop.DBus.Introspectable", "Introspect");
    ASSERT_EQ(said.error, "");
    const auto expected = members_of(shipped(interface), interface);
    EXPECT_GT(expected.size(), 10U);
    EXPECT_EQ(members_of(said.body[0].get<std::string>(), interface), expected);
  }
  ::unsetenv("DBUS_SESSION_BUS_ADDRESS");
}

}  // namespace
}  // namespace portfwd
