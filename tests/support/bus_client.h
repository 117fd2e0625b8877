// A client of the bus in the same thread and loop as the service under test: calls are asynchronous
// underneath, and the loop turns until the answer has arrived. It uses plain sd-bus, so that it
// sees what any program sees. Messages are JSON, so that a test can examine them.
#pragma once

#include <gtest/gtest.h>
#include <systemd/sd-bus.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "event/event_loop.h"
#include "support/deadline.h"

namespace portfwd::testing_support {

using Json = nlohmann::json;

/// Turns the loop until `done`, at most kDeadline. @return whether it is done. Turns are short,
/// since a condition that becomes true in a hook does not end the wait after it.
inline bool turn_until(EventLoop& loop, const std::function<bool()>& done) {
  const TimePoint deadline = loop.now() + kDeadline;
  while (!done()) {
    if (loop.now() > deadline || !loop.turn(std::chrono::milliseconds(20))) return false;
  }
  return true;
}

/// Reads the next value of a message: an array for structs and arrays, an object for dictionaries.
inline Json read_value(sd_bus_message* m) {
  char type = 0;
  const char* contents = nullptr;
  if (::sd_bus_message_peek_type(m, &type, &contents) <= 0) return nullptr;
  const auto rest = [m](char kind, const char* of) {
    Json values = Json::array();
    ::sd_bus_message_enter_container(m, kind, of);
    while (!::sd_bus_message_at_end(m, 0)) values.push_back(read_value(m));
    ::sd_bus_message_exit_container(m);
    return values;
  };
  const std::string inner = contents ? contents : "";
  if (type == SD_BUS_TYPE_VARIANT) return rest(type, inner.c_str())[0];
  if (type == SD_BUS_TYPE_ARRAY && inner.starts_with("{")) {
    Json object = Json::object();
    for (const Json& entry : rest(type, inner.c_str()))
      object[entry[0].get<std::string>()] = entry[1];
    return object;
  }
  if (contents != nullptr) return rest(type, inner.c_str());
  union {
    const char* text;
    std::uint64_t t;
    std::int64_t x;
    std::uint32_t u;
    std::uint16_t q;
    double d;
    int i;
  } value{};
  ::sd_bus_message_read_basic(m, type, &value);
  switch (type) {
    case 's':
    case 'o':
      return value.text;
    case 'b':
      return value.i != 0;
    case 'q':
      return value.q;
    case 'u':
      return value.u;
    case 't':
      return value.t;
    case 'x':
      return value.x;
    case 'd':
      return value.d;
    default:
      return value.i;
  }
}

inline Json read_all(sd_bus_message* m) {
  Json values = Json::array();
  while (!::sd_bus_message_at_end(m, 1)) values.push_back(read_value(m));
  return values;
}

class BusClient final : private WaitHook, private IoHandler {
 public:
  struct Reply {
    std::string error;  ///< D-Bus name; empty for a success
    std::string text;
    Json body;  ///< the arguments, as an array
  };
  struct Signal {
    std::string path;
    std::string member;
    Json body;
  };

  BusClient(EventLoop& loop, const std::string& address)
      : loop_(loop), bus_(connect(address)), source_(loop, ::sd_bus_get_fd(bus_), *this) {
    loop_.add_hook(*this);
  }
  BusClient(const BusClient&) = delete;
  BusClient& operator=(const BusClient&) = delete;
  ~BusClient() {
    loop_.remove_hook(*this);
    source_.disarm();
    ::sd_bus_flush_close_unref(bus_);
  }

  [[nodiscard]] std::string unique_name() const {
    const char* name = nullptr;
    ::sd_bus_get_unique_name(bus_, &name);
    return name;
  }

  /// Collects every signal of org.portfwd1 from now on.
  void listen() {
    ASSERT_GE(
        ::sd_bus_add_match(bus_, nullptr, "type='signal',sender='org.portfwd1'", on_signal, this),
        0);
  }
  [[nodiscard]] const std::vector<Signal>& signals() const { return signals_; }
  [[nodiscard]] std::vector<Signal> signals(const std::string& member) const {
    std::vector<Signal> found;
    std::ranges::copy_if(signals_, std::back_inserter(found),
                         [&](const Signal& s) { return s.member == member; });
    return found;
  }
  [[nodiscard]] bool saw(const std::string& member) const { return !signals(member).empty(); }

  /// @param signature and arguments as for sd_bus_message_append(3)
  template <class... Arguments>
  Reply call(const std::string& path, const std::string& interface, const std::string& member,
             const char* signature = "", Arguments... arguments) {
    sd_bus_message* m = nullptr;
    ::sd_bus_message_new_method_call(bus_, &m, "org.portfwd1", path.c_str(), interface.c_str(),
                                     member.c_str());
    EXPECT_GE(::sd_bus_message_append(m, signature, arguments...), 0) << member;
    Pending pending;
    EXPECT_GE(::sd_bus_call_async(bus_, nullptr, m, on_reply, &pending, 0), 0) << member;
    ::sd_bus_message_unref(m);
    EXPECT_TRUE(turn_until(loop_, [&] { return pending.done; })) << member << " was not answered";
    return pending.reply;
  }
  template <class... Arguments>
  Reply manager(const std::string& member, const char* signature = "", Arguments... arguments) {
    return call("/org/portfwd1", "org.portfwd1.Manager", member, signature, arguments...);
  }
  /// Calls the manager without waiting; `answered` counts the successful answers.
  void call_later(const char* member, int& answered) {
    const auto count = [](sd_bus_message* m, void* counter, sd_bus_error*) {
      if (::sd_bus_message_get_error(m) == nullptr) ++*static_cast<int*>(counter);
      return 1;
    };
    EXPECT_GE(::sd_bus_call_method_async(bus_, nullptr, "org.portfwd1", "/org/portfwd1",
                                         "org.portfwd1.Manager", member, count, &answered, ""),
              0);
  }
  Json properties(const std::string& path, const std::string& interface) {
    return call(path, "org.freedesktop.DBus.Properties", "GetAll", "s", interface.c_str()).body[0];
  }
  Json managed_objects() {
    return call("/org/portfwd1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects").body[0];
  }

 private:
  struct Pending {
    bool done = false;
    Reply reply;
  };

  static sd_bus* connect(const std::string& address) {
    sd_bus* bus = nullptr;
    ::sd_bus_new(&bus);
    ::sd_bus_set_address(bus, address.c_str());
    ::sd_bus_set_bus_client(bus, 1);
    ::sd_bus_negotiate_fds(bus, 1);
    EXPECT_GE(::sd_bus_start(bus), 0) << address;
    EXPECT_GE(::sd_bus_flush(bus), 0) << address;  // returns when the bus has answered Hello
    return bus;
  }

  static int on_reply(sd_bus_message* m, void* pending, sd_bus_error*) {
    auto& [done, reply] = *static_cast<Pending*>(pending);
    if (const sd_bus_error* error = ::sd_bus_message_get_error(m)) {
      reply.error = error->name;
      reply.text = error->message;
    } else {
      reply.body = read_all(m);
    }
    done = true;
    return 1;
  }

  static int on_signal(sd_bus_message* m, void* client, sd_bus_error*) {
    static_cast<BusClient*>(client)->signals_.push_back(
        {::sd_bus_message_get_path(m), ::sd_bus_message_get_member(m), read_all(m)});
    return 0;
  }

  void before_wait() override {
    while (::sd_bus_process(bus_, nullptr) > 0) {
    }
    const int events = ::sd_bus_get_events(bus_);
    static_cast<void>(source_.watch(events < 0 ? 0 : static_cast<std::uint32_t>(events)));
  }
  void on_io(IoSource&, std::uint32_t) override {}

  EventLoop& loop_;
  sd_bus* bus_;
  IoSource source_;
  std::vector<Signal> signals_;
};

}  // namespace portfwd::testing_support
