#include "dbus/manager_object.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdint>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/version.h"
#include "dbus/fields.h"
#include "dbus/objects.h"
#include "forward/model.h"

namespace portfwd {

namespace {

/// The value of an option in a message. The reader must ask for the type that the option has.
class OptionValue {
 public:
  explicit OptionValue(sd_bus_message* message) : message_(message) {}

  /// @tparam T what sd-bus reads a value of `type` into
  template <class T>
  [[nodiscard]] T read(char type) const {
    T value{};
    [[maybe_unused]] const int r =
        ::sd_bus_message_read_basic(message_, type, static_cast<void*>(&value));
    assert(r > 0);  // the type was compared before
    return value;
  }
  void into(bool& member) const { member = read<int>('b') != 0; }
  void into(std::string& member) const { member = read<const char*>('s'); }

 private:
  sd_bus_message* message_;
};

struct Option {
  std::string_view key;
  std::string_view type;  ///< D-Bus signature
  std::string_view meaning;
  Answer<void> (*apply)(RequestedForward& request, OptionValue value);
};

Answer<void> apply_host_port(RequestedForward& request, OptionValue value) {
  const auto port = value.read<std::uint16_t>('q');
  if (port == 0) return reject("option 'host_port' must be 1 to 65535; omit it for any port");
  request.spec.host_port = port;
  return {};
}

Answer<void> apply_host(RequestedForward& request, OptionValue value) {
  return read_host(value.read<const char*>('s'), request.spec);
}

Answer<void> apply_owner(RequestedForward& request, OptionValue value) {
  return read_owner(value.read<const char*>('s'), request.spec.socket);
}

Answer<void> apply_mode(RequestedForward& request, OptionValue value) {
  const auto mode = value.read<std::uint32_t>('u');
  if (mode > 0777) return reject("option 'mode' must be 0 to 0777 (511): permission bits alone");
  request.spec.socket.mode = mode;
  return {};
}

Answer<void> apply_peer(RequestedForward& request, OptionValue value) {
  request.spec.socket.peer_uid = value.read<std::uint32_t>('u');
  return {};
}

template <auto Member>
Answer<void> apply_socket_flag(RequestedForward& request, OptionValue value) {
  value.into(request.spec.socket.*Member);
  return {};
}

Answer<void> apply_direction(RequestedForward& request, OptionValue value) {
  const std::string_view name = value.read<const char*>('s');
  if (name != "in" && name != "reverse") {
    return reject(fmt::format("option 'direction' must be 'in' or 'reverse', not '{}'", name));
  }
  request.spec.direction = name == "in" ? Direction::In : Direction::Reverse;
  return {};
}

Answer<void> apply_lifeline(RequestedForward& request, OptionValue value) {
  value.into(request.while_connected);
  return {};
}

template <auto Member>
Answer<void> apply_option(RequestedForward& request, OptionValue value) {
  value.into(request.spec.*Member);
  return {};
}

constexpr std::array kOptions{
    Option{"host_port", "q", "a port", apply_host_port},
    Option{"host", "s", "a string", apply_host},
    Option{"owner", "s", "a string", apply_owner},
    Option{"mode", "u", "a number", apply_mode},
    Option{"create_parents", "b", "a boolean", apply_socket_flag<&SocketOptions::create_parents>},
    Option{"pass_fds", "b", "a boolean", apply_socket_flag<&SocketOptions::pass_fds>},
    Option{"peer_uid", "u", "a uid", apply_peer},
    Option{"bind", "s", "a string", apply_option<&ForwardSpec::bind>},
    Option{"container_address", "s", "a string", apply_option<&ForwardSpec::container_address>},
    Option{"label", "s", "a string", apply_option<&ForwardSpec::label>},
    Option{"persist", "b", "a boolean", apply_option<&ForwardSpec::persist>},
    Option{"allow_missing", "b", "a boolean", apply_option<&ForwardSpec::allow_missing>},
    Option{"direction", "s", "a string", apply_direction},
    Option{"while_connected", "b", "a boolean", apply_lifeline},
};

std::string known_keys() {
  std::array<std::string_view, kOptions.size()> keys;
  std::ranges::transform(kOptions, keys.begin(), &Option::key);
  return fmt::format("{}", fmt::join(keys, ", "));
}

/// @param message at the value of the option, a variant
Answer<void> read_option(sd_bus_message* message, std::string_view key, RequestedForward& request) {
  const auto* option = std::ranges::find(kOptions, key, &Option::key);
  if (option == kOptions.end()) {
    return reject(fmt::format("unknown option '{}'; the options are {}", key, known_keys()));
  }
  const char* type = "";
  if (const auto peeked =
          check("sd_bus_message_peek_type", ::sd_bus_message_peek_type(message, nullptr, &type));
      !peeked) {
    return reject(peeked.error().text());
  }
  if (type != option->type) {
    return reject(fmt::format("option '{}' must be {} (D-Bus type {}), not of type {}", key,
                              option->meaning, option->type, type));
  }
  if (const auto entered = check("sd_bus_message_enter_container",
                                 ::sd_bus_message_enter_container(message, 'v', type));
      !entered) {
    return reject(entered.error().text());
  }
  auto applied = option->apply(request, OptionValue(message));
  if (applied) ::sd_bus_message_exit_container(message);
  return applied;
}

/// @param message at the dictionary
Answer<void> read_options(sd_bus_message* message, RequestedForward& request) {
  int r = ::sd_bus_message_enter_container(message, 'a', "{sv}");
  if (r > 0) r = ::sd_bus_message_enter_container(message, 'e', "sv");
  while (r > 0) {
    const char* key = "";
    r = ::sd_bus_message_read(message, "s", &key);
    if (r < 0) break;
    if (auto read = read_option(message, key, request); !read) return read;
    r = ::sd_bus_message_exit_container(message);
    if (r >= 0) r = ::sd_bus_message_enter_container(message, 'e', "sv");
  }
  if (r < 0) return reject(Error{-r, "sd_bus_message_read"}.text());
  return {};
}

/// Limit of an answer of GetEvents, far below that of a bus (64 MiB or more).
constexpr std::size_t kMaxAnswerBytes = 2UL << 20;

/// The path that a caller sent, for an error message: printable and truncated.
std::string quoted(const char* path) {
  return printable(path, 256);
}

Answer<std::string> forward_id(const char* path) {
  if (auto id = id_of_path(kForwardPrefix, path)) return *id;
  return refuse(Refusal::Kind::NoSuchForward,
                fmt::format("{} is not the object path of a forward", quoted(path)));
}

Answer<std::string> container_id(const char* path) {
  if (auto id = id_of_path(kContainerPrefix, path)) return *id;
  return refuse(Refusal::Kind::NoSuchContainer,
                fmt::format("{} is not the object path of a container", quoted(path)));
}

int reply_done(sd_bus_message* call, const Answer<void>& done, sd_bus_error* error) {
  if (!done) return reply_refusal(done.error(), error);
  return reply_to(call, [](MessageWriter&) {});
}

/// @param id of the object, or the refusal @param path_of makes the object path of an id
int reply_path(sd_bus_message* call, const Answer<std::string>& id,
               std::string (*path_of)(std::string_view), sd_bus_error* error) {
  if (!id) return reply_refusal(id.error(), error);
  return reply_to(call, [&](MessageWriter& writer) { writer.add(ObjectPath{path_of(*id)}); });
}

void write_facts(const Facts& facts, MessageWriter& writer) {
  writer.array("{sv}", [&] {
    for (const auto& [key, fact] : facts) write_fact(key, fact, writer);
  });
}

}  // namespace

// --- object --------------------------------------------------------------------------------------

const std::vector<sd_bus_vtable>& ManagerObject::vtable() {
  using M = ManagerObject;
  constexpr auto kFree = SD_BUS_VTABLE_UNPRIVILEGED;
  static const std::vector<sd_bus_vtable> made{
      SD_BUS_VTABLE_START(0),
      SD_BUS_METHOD_WITH_NAMES("Forward", "ssa{sv}",
                               SD_BUS_PARAM(container) SD_BUS_PARAM(target) SD_BUS_PARAM(options),
                               "o", SD_BUS_PARAM(forward), &call<&M::forward>, kFree),
      SD_BUS_METHOD_WITH_NAMES("Unforward", "o", SD_BUS_PARAM(forward), "", "",
                               &call<&M::unforward>, kFree),
      SD_BUS_METHOD_WITH_NAMES("AttachPid", "us", SD_BUS_PARAM(pid) SD_BUS_PARAM(name), "o",
                               SD_BUS_PARAM(container), &call<&M::attach_pid>, kFree),
      SD_BUS_METHOD_WITH_NAMES("AttachNetns", "hs", SD_BUS_PARAM(netns) SD_BUS_PARAM(name), "o",
                               SD_BUS_PARAM(container), &call<&M::attach_netns>, kFree),
      SD_BUS_METHOD_WITH_NAMES("Detach", "o", SD_BUS_PARAM(container), "", "", &call<&M::detach>,
                               kFree),
      SD_BUS_METHOD_WITH_NAMES("GetEvents", "t", SD_BUS_PARAM(after_seq), "a(ttsoa{sv})",
                               SD_BUS_PARAM(events), &call<&M::get_events>, kFree),
      SD_BUS_METHOD_WITH_NAMES("GetCounters", "", "", "a(otttttt)", SD_BUS_PARAM(counters),
                               &call<&M::get_counters>, kFree),
      SD_BUS_METHOD_WITH_NAMES("Explain", "ss", SD_BUS_PARAM(container) SD_BUS_PARAM(target),
                               "a{sv}", SD_BUS_PARAM(facts), &call<&M::explain>, kFree),
      SD_BUS_METHOD_WITH_NAMES("GetStatus", "", "", "a{sv}", SD_BUS_PARAM(facts),
                               &call<&M::get_status>, kFree),
      SD_BUS_METHOD("Reload", "", "", &call<&M::reload>, kFree),
      SD_BUS_SIGNAL_WITH_NAMES("PortAdded", "oa{sv}",
                               SD_BUS_PARAM(forward) SD_BUS_PARAM(properties), 0),
      SD_BUS_SIGNAL_WITH_NAMES("PortRemoved", "oa{sv}",
                               SD_BUS_PARAM(forward) SD_BUS_PARAM(properties), 0),
      SD_BUS_SIGNAL_WITH_NAMES("ContainerAdded", "oa{sv}",
                               SD_BUS_PARAM(container) SD_BUS_PARAM(properties), 0),
      SD_BUS_SIGNAL_WITH_NAMES("ContainerRemoved", "oa{sv}",
                               SD_BUS_PARAM(container) SD_BUS_PARAM(properties), 0),
      SD_BUS_PROPERTY("Version", "s", &get<&M::version>, 0, SD_BUS_VTABLE_PROPERTY_CONST),
      SD_BUS_PROPERTY("InstanceId", "s", &get<&M::instance_id>, 0, SD_BUS_VTABLE_PROPERTY_CONST),
      SD_BUS_PROPERTY("Containers", "u", &get<&M::containers>, 0,
                      SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
      SD_BUS_PROPERTY("Forwards", "u", &get<&M::forwards>, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
      SD_BUS_PROPERTY("PollIntervalUSec", "t", &get<&M::poll_interval>, 0, 0),
      SD_BUS_VTABLE_END,
  };
  return made;
}

Result<void> ManagerObject::publish() {
  assert(!object_);
  sd_bus_slot* made = nullptr;
  int r = ::sd_bus_add_object_vtable(bus_, &made, kManagerPath, kManagerInterface, vtable().data(),
                                     this);
  object_.reset(made);
  if (r < 0) return fail("sd_bus_add_object_vtable", -r);
  made = nullptr;
  r = ::sd_bus_add_object_manager(bus_, &made, kManagerPath);
  object_manager_.reset(made);
  return check("sd_bus_add_object_manager", r);
}

void ManagerObject::emit(const Event& event) {
  if (event.type == Event::Type::Gap) return;  // in GetEvents; a listener sees it by the numbers
  const std::string name(name_of(event.type));
  sd_bus_message* made = nullptr;
  int r = ::sd_bus_message_new_signal(bus_, &made, kManagerPath, kManagerInterface, name.c_str());
  const MessagePtr signal(made);
  if (r >= 0) {
    MessageWriter writer(signal.get());
    writer.add(ObjectPath{event_path(event)});
    write_event(event, writer);
    r = writer.result();
  }
  if (r >= 0) r = ::sd_bus_send(bus_, signal.get(), nullptr);
  log_unsent("an event", r);
}

void ManagerObject::set_counts(std::size_t containers, std::size_t forwards) {
  std::set<std::string> names;
  if (std::exchange(containers_, static_cast<std::uint32_t>(containers)) != containers) {
    names.emplace("Containers");
  }
  if (std::exchange(forwards_, static_cast<std::uint32_t>(forwards)) != forwards) {
    names.emplace("Forwards");
  }
  emit_changed(bus_, kManagerPath, kManagerInterface, names);
}

void ManagerObject::version(MessageWriter& writer) const {
  writer.add(std::string(kVersion));
}

void ManagerObject::instance_id(MessageWriter& writer) const {
  writer.add(bus_text(control_.instance_id()));
}

// --- methods -------------------------------------------------------------------------------------

/// Answers at once, unless the sockets of the forward are being made: then when they are.
int ManagerObject::answer_forward(sd_bus_message* call, const Answer<std::string>& id,
                                  sd_bus_error* error) {
  if (!id || !control_.is_pending(*id)) return reply_path(call, id, forward_path, error);
  waiting_calls_.emplace(*id, ::sd_bus_message_ref(call));
  return 1;
}

void ManagerObject::on_forward(const ForwardInfo& forward) {
  if (forward.pending) return;
  for (auto call = waiting_calls_.find(forward.id); call != waiting_calls_.end();
       call = waiting_calls_.find(forward.id)) {
    (void)reply_path(call->second.get(), forward.id, forward_path, nullptr);
    waiting_calls_.erase(call);
  }
}

/// With `while_connected` the answer is sent after the bus has confirmed that the caller is still
/// connected.
int ManagerObject::forward(sd_bus_message* call, sd_bus_error* error) {
  const char* container = nullptr;
  const char* target = nullptr;
  if (const int r = ::sd_bus_message_read(call, "ss", &container, &target); r < 0) return r;
  RequestedForward request;
  if (const auto read = read_options(call, request); !read) {
    return reply_refusal(read.error(), error);
  }
  auto checked = check_target(target);
  if (!checked) return reply_refusal(checked.error(), error);
  request.spec.container = container;
  request.spec.target = std::move(*checked);
  if (!request.while_connected) {
    return answer_forward(call, control_.forward(request.spec, ""), error);
  }
  const std::string lifeline = ::sd_bus_message_get_sender(call);
  auto answer = [this, lifeline, spec = std::move(request.spec),
                 call = MessagePtr(::sd_bus_message_ref(call))](bool there) {
    sd_bus_error refusal = SD_BUS_ERROR_NULL;
    const Answer<std::string> id =
        there ? control_.forward(spec, lifeline) : reject("the caller has left the bus");
    if (answer_forward(call.get(), id, &refusal) < 0) {
      ::sd_bus_reply_method_error(call.get(), &refusal);
    }
    ::sd_bus_error_free(&refusal);
  };
  const auto watched = lifelines_.watch(lifeline, std::move(answer));
  return watched ? 1 : -watched.error().code;
}

int ManagerObject::unforward(sd_bus_message* call, sd_bus_error* error) {
  const char* path = nullptr;
  if (const int r = ::sd_bus_message_read(call, "o", &path); r < 0) return r;
  const auto id = forward_id(path);
  if (!id) return reply_refusal(id.error(), error);
  return reply_done(call, control_.unforward(*id), error);
}

int ManagerObject::attach_pid(sd_bus_message* call, sd_bus_error* error) {
  std::uint32_t pid = 0;
  const char* name = nullptr;
  if (const int r = ::sd_bus_message_read(call, "us", &pid, &name); r < 0) return r;
  if (pid == 0 || pid > std::uint32_t{std::numeric_limits<pid_t>::max()}) {
    return reply_refusal(reject(fmt::format("{} is not a process id", pid)).error(), error);
  }
  return reply_path(call, control_.attach_pid(static_cast<pid_t>(pid), name), container_path,
                    error);
}

int ManagerObject::attach_netns(sd_bus_message* call, sd_bus_error* error) {
  int netns = -1;
  const char* name = nullptr;
  if (const int r = ::sd_bus_message_read(call, "hs", &netns, &name); r < 0) return r;
  UniqueFd own(::fcntl(netns, F_DUPFD_CLOEXEC, 0));  // the message keeps its own
  if (!own.valid()) {
    return reply_refusal({Refusal::Kind::Failed, fail("fcntl").error().text()}, error);
  }
  return reply_path(call, control_.attach_netns(std::move(own), name), container_path, error);
}

int ManagerObject::detach(sd_bus_message* call, sd_bus_error* error) {
  const char* path = nullptr;
  if (const int r = ::sd_bus_message_read(call, "o", &path); r < 0) return r;
  const auto id = container_id(path);
  if (!id) return reply_refusal(id.error(), error);
  return reply_done(call, control_.detach(*id), error);
}

/// Limited to kMaxAnswerBytes; the caller requests the rest with the last number it received.
int ManagerObject::get_events(sd_bus_message* call, sd_bus_error*) {
  std::uint64_t after = 0;
  if (const int r = ::sd_bus_message_read(call, "t", &after); r < 0) return r;
  const auto write = [](const Event& event, MessageWriter& writer) {
    writer.structure("ttsoa{sv}", [&] {
      writer.add(event.seq)
          .add(microseconds(event.time))
          .add(std::string(name_of(event.type)))
          .add(ObjectPath{event_path(event)});
      write_event(event, writer);
    });
  };
  return reply_to(call, [&](MessageWriter& writer) {
    writer.array("(ttsoa{sv})", [&] {
      std::size_t bytes = 0;
      for (const Event& event : control_.events_after(after)) {
        const bool first = bytes == 0;
        bytes += size_on_bus(event);
        if (bytes > kMaxAnswerBytes && !first) break;
        write(event, writer);
      }
    });
  });
}

int ManagerObject::get_counters(sd_bus_message* call, sd_bus_error*) {
  return reply_to(call, [this](MessageWriter& writer) {
    writer.array("(otttttt)", [&] {
      for (const auto& [id, c] : control_.counters()) {
        writer.structure("otttttt", [&] {
          writer.add(ObjectPath{forward_path(id)}).add(c.active).add(c.total).add(c.failed);
          writer.add(c.refused).add(c.bytes_in).add(c.bytes_out);
        });
      }
    });
  });
}

int ManagerObject::explain(sd_bus_message* call, sd_bus_error* error) {
  const char* container = nullptr;
  const char* target = nullptr;
  if (const int r = ::sd_bus_message_read(call, "ss", &container, &target); r < 0) return r;
  const auto facts = control_.explain(container, target);
  if (!facts) return reply_refusal(facts.error(), error);
  return reply_to(call, [&](MessageWriter& writer) { write_facts(*facts, writer); });
}

int ManagerObject::get_status(sd_bus_message* call, sd_bus_error*) {
  Facts facts = control_.status();
  facts.insert({{"version", std::string(kVersion)},  // Control's own word comes first
                {"instance_id", control_.instance_id()},
                {"containers", std::int64_t{containers_}},
                {"forwards", std::int64_t{forwards_}}});
  return reply_to(call, [&](MessageWriter& writer) { write_facts(facts, writer); });
}

int ManagerObject::reload(sd_bus_message* call, sd_bus_error* error) {
  return reply_done(call, control_.reload(), error);
}

// --- lifelines -----------------------------------------------------------------------------------

namespace {

constexpr const char* kBus = "org.freedesktop.DBus";
constexpr const char* kBusPath = "/org/freedesktop/DBus";

}  // namespace

/// Adds the match before it calls NameHasOwner: the bus handles both in order, so the answer
/// reports a caller that left before the match was added, and the match one that leaves later.
Result<void> Lifelines::watch(const std::string& name, Watched watched) {
  sd_bus_slot* made = nullptr;
  if (const auto [at, is_new] = matches_.try_emplace(name, *this, name, nullptr); is_new) {
    const std::string rule = fmt::format(
        "type='signal',sender='{}',path='{}',interface='{}',member='NameOwnerChanged',arg0='{}',"
        "arg2=''",
        kBus, kBusPath, kBus, name);
    const int r =
        ::sd_bus_add_match_async(bus_, &made, rule.c_str(), &on_owner_lost, nullptr, &at->second);
    at->second.slot.reset(made);
    if (r < 0) {
      matches_.erase(at);
      return fail("sd_bus_add_match_async", -r);
    }
  }
  OwnerQuery& question = owner_queries_.emplace_back(*this, std::move(watched), nullptr);
  made = nullptr;
  const int r = ::sd_bus_call_method_async(bus_, &made, kBus, kBusPath, kBus, "NameHasOwner",
                                           &on_answer, &question, "s", name.c_str());
  question.slot.reset(made);
  if (r < 0) owner_queries_.pop_back();
  return check("sd_bus_call_method_async", r);
}

int Lifelines::on_owner_lost(sd_bus_message*, void* match, sd_bus_error*) noexcept {
  auto& ended = *static_cast<Match*>(match);
  Lifelines& self = ended.owner;
  const std::string name = ended.name;
  self.matches_.erase(name);
  self.ended_(name);
  return 0;
}

/// An error counts as a caller that has left.
int Lifelines::on_answer(sd_bus_message* answer, void* question, sd_bus_error*) noexcept {
  auto& asked = *static_cast<OwnerQuery*>(question);
  int there = 0;
  const bool read = ::sd_bus_message_is_method_error(answer, nullptr) == 0 &&
                    ::sd_bus_message_read(answer, "b", &there) > 0;
  Watched watched = std::move(asked.watched);
  asked.owner.owner_queries_.remove_if([&](const OwnerQuery& one) { return &one == &asked; });
  watched(read && there != 0);
  return 0;
}

Result<bool> name_has_owner(sd_bus* bus, const char* name) {
  sd_bus_message* got = nullptr;
  int owned = 0;
  int r = ::sd_bus_call_method(bus, kBus, kBusPath, kBus, "NameHasOwner", nullptr, &got, "s", name);
  const MessagePtr answer(got);
  if (r >= 0) r = ::sd_bus_message_read(answer.get(), "b", &owned);
  if (r < 0) return fail("NameHasOwner", -r);
  return owned != 0;
}

}  // namespace portfwd
