// Programs on the user's bus: requests of any number and size.
#include "stall/stall_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;

struct StallByBus : StallTest {
  /// A process with a bus connection of its own, which it uses until it is killed.
  class Caller {
   public:
    Caller(const std::string& address, const std::function<void(sd_bus*)>& go_on) {
      pid_ = ::fork();
      if (pid_ != 0) return;
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      sd_bus* bus = nullptr;
      ::sd_bus_new(&bus);
      ::sd_bus_set_address(bus, address.c_str());
      ::sd_bus_set_bus_client(bus, 1);
      ::sd_bus_start(bus);
      ::sd_bus_flush(bus);
      go_on(bus);
      ::pause();
    }
    Caller(const Caller&) = delete;
    Caller& operator=(const Caller&) = delete;
    ~Caller() {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }

   private:
    pid_t pid_ = -1;
  };

  static void forward(sd_bus* bus, const std::string& container, const std::string& target,
                      const std::string& label) {
    sd_bus_message* m = nullptr;
    ::sd_bus_message_new_method_call(bus, &m, "org.portfwd1", "/org/portfwd1",
                                     "org.portfwd1.Manager", "Forward");
    ::sd_bus_message_append(m, "ssa{sv}", container.c_str(), target.c_str(), 3, "allow_missing",
                            "b", 1, "while_connected", "b", 1, "label", "s", label.c_str());
    ::sd_bus_call(bus, m, 30'000'000, nullptr, nullptr);
    ::sd_bus_message_unref(m);
  }
};

TEST_F(StallByBus, IsNotSeenBesideRequestsForThousandsOfForwards) {
  expect_no_stall_beside([&] {
    const Caller caller(bus_.address(), [](sd_bus* bus) {
      for (int i = 0; i < 3000; ++i) forward(bus, "later", std::to_string(10'000 + i), "");
    });
    go_on_for(3s);
  });
}

}  // namespace
}  // namespace portfwd
