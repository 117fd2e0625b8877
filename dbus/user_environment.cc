#include "dbus/user_environment.h"

#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace portfwd {

namespace {

constexpr std::uint64_t kTimeout = 500'000;  ///< µs, for the manager's answer

std::optional<std::string> own_variable(const std::string& name) {
  const char* const value = std::getenv(name.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

}  // namespace

class ManagerEnvironment::ManagerRead final : public Read {
 public:
  ManagerRead(EventLoop& loop, sd_bus* bus, OnRead on_read)
      : on_read_(std::move(on_read)), answer_(loop, [this] { answer(); }) {
    if (bus == nullptr || !call(bus)) answer_.arm_now();
  }

 private:
  bool call(sd_bus* bus) {
    sd_bus_message* made = nullptr;
    if (::sd_bus_message_new_method_call(bus, &made, "org.freedesktop.systemd1",
                                         "/org/freedesktop/systemd1",
                                         "org.freedesktop.DBus.Properties", "Get") < 0) {
      return false;
    }
    const MessagePtr message(made);
    (void)::sd_bus_message_set_auto_start(made, 0);
    sd_bus_slot* slot = nullptr;
    if (::sd_bus_message_append(made, "ss", "org.freedesktop.systemd1.Manager", "Environment") <
            0 ||
        ::sd_bus_call_async(bus, &slot, made, &ManagerRead::on_reply, this, kTimeout) < 0) {
      return false;
    }
    slot_.reset(slot);
    return true;
  }

  /// Answers in the next turn: the callback may destroy this and its slot.
  static int on_reply(sd_bus_message* reply, void* self, sd_bus_error*) noexcept {
    auto& read = *static_cast<ManagerRead*>(self);
    if (::sd_bus_message_is_method_error(reply, nullptr) == 0) read.parse(reply);
    read.answer_.arm_now();
    return 0;
  }

  void parse(sd_bus_message* reply) {
    if (::sd_bus_message_enter_container(reply, 'v', "as") <= 0 ||
        ::sd_bus_message_enter_container(reply, 'a', "s") < 0) {
      return;
    }
    const char* text = nullptr;
    while (::sd_bus_message_read_basic(reply, 's', static_cast<void*>(&text)) > 0) {
      const std::string_view variable(text);
      const auto equals = variable.find('=');
      if (equals == variable.npos) continue;
      variables_.insert_or_assign(std::string(variable.substr(0, equals)),
                                  std::string(variable.substr(equals + 1)));
    }
  }

  void answer() {
    OnRead on_read = std::move(on_read_);
    const auto variables = std::move(variables_);
    on_read([&variables](std::string_view name) -> std::optional<std::string> {
      const auto known = variables.find(name);
      return known != variables.end() ? known->second : own_variable(std::string(name));
    });
  }

  OnRead on_read_;
  std::map<std::string, std::string, std::less<>> variables_;
  Timer answer_;
  SlotPtr slot_;
};

std::unique_ptr<UserEnvironment::Read> ManagerEnvironment::read(OnRead on_read) {
  return std::make_unique<ManagerRead>(loop_, bus_, std::move(on_read));
}

}  // namespace portfwd
