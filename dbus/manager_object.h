// The object /org/portfwd1: methods, properties and signals of org.portfwd1.Manager. Owned by the
// bus service. Each method makes one call to Control; the only state are the two counts.
#pragma once

#include <systemd/sd-bus.h>

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <string>

#include "api/control.h"
#include "dbus/message.h"
#include "dbus/names.h"

namespace portfwd {

// Watches callers whose forwards end with their bus connection (`while_connected`). Owned by the
// bus service. Each name has a match of its own: a match on all names would wake the daemon for
// every program that leaves the bus.
class Lifelines {
 public:
  using Ended = std::move_only_function<void(const std::string& name)>;
  /// @param there whether the name still has an owner
  using Watched = std::move_only_function<void(bool there)>;

  /// @param bus borrowed @param ended called with a unique name once its owner has left
  Lifelines(sd_bus* bus, Ended ended) : bus_(bus), ended_(std::move(ended)) {}
  Lifelines(const Lifelines&) = delete;
  Lifelines& operator=(const Lifelines&) = delete;

  /// Watches `name`, a unique name. Several calls for one name share a match.
  /// @param watched called once, from the loop, with the answer of the bus; if the name has an
  /// owner, `ended` is called when that owner leaves
  Result<void> watch(const std::string& name, Watched watched);

 private:
  struct Match {
    Lifelines& owner;
    std::string name;
    SlotPtr slot;
  };
  struct OwnerQuery {
    Lifelines& owner;
    Watched watched;
    SlotPtr slot;
  };
  static int on_owner_lost(sd_bus_message*, void* match, sd_bus_error*) noexcept;
  static int on_answer(sd_bus_message* answer, void* question, sd_bus_error*) noexcept;

  sd_bus* bus_;
  Ended ended_;
  std::map<std::string, Match> matches_;  ///< by name
  std::list<OwnerQuery> owner_queries_;   ///< calls of NameHasOwner without an answer yet
};

/// Whether `name` has an owner on the bus. Blocks for the answer of the bus.
[[nodiscard]] Result<bool> name_has_owner(sd_bus* bus, const char* name);

// The arguments of Manager.Forward. Its options are an untrusted dictionary, which is checked key
// by key: an unknown key or a wrong type is an error that names the key.
struct RequestedForward {
  ForwardSpec spec;
  bool while_connected = false;
};

class ManagerObject {
 public:
  /// Borrows all arguments.
  ManagerObject(sd_bus* bus, Control& control, Lifelines& lifelines)
      : bus_(bus), control_(control), lifelines_(lifelines) {}
  ManagerObject(const ManagerObject&) = delete;
  ManagerObject& operator=(const ManagerObject&) = delete;

  /// Registers the object and the object manager. Must be called once.
  Result<void> publish();
  void emit(const Event& event);
  /// Must be called when a forward has changed or was removed: answers the calls that wait for it.
  void on_forward(const ForwardInfo& forward);
  /// Sets the two counts and emits PropertiesChanged for those that changed.
  void set_counts(std::size_t containers, std::size_t forwards);

 private:
  static const std::vector<sd_bus_vtable>& vtable();

  // Methods: handlers as sd-bus defines them, without userdata.
  int forward(sd_bus_message* call, sd_bus_error* error);
  int unforward(sd_bus_message* call, sd_bus_error* error);
  int attach_pid(sd_bus_message* call, sd_bus_error* error);
  int attach_netns(sd_bus_message* call, sd_bus_error* error);
  int detach(sd_bus_message* call, sd_bus_error* error);
  int get_events(sd_bus_message* call, sd_bus_error* error);
  int get_counters(sd_bus_message* call, sd_bus_error* error);
  int explain(sd_bus_message* call, sd_bus_error* error);
  int get_status(sd_bus_message* call, sd_bus_error* error);
  int reload(sd_bus_message* call, sd_bus_error* error);

  // Properties.
  void version(MessageWriter& writer) const;
  void instance_id(MessageWriter& writer) const;
  void containers(MessageWriter& writer) const { writer.add(containers_); }
  void forwards(MessageWriter& writer) const { writer.add(forwards_); }
  void poll_interval(MessageWriter& writer) const { writer.add(control_.poll_interval_usec()); }

  template <int (ManagerObject::*Method)(sd_bus_message*, sd_bus_error*)>
  // std::visit throws when a variant has no value, which no fact lacks.
  // NOLINTNEXTLINE(bugprone-exception-escape)
  static int call(sd_bus_message* call, void* self, sd_bus_error* error) noexcept {
    return (static_cast<ManagerObject*>(self)->*Method)(call, error);
  }
  template <void (ManagerObject::*Property)(MessageWriter&) const>
  static int get(sd_bus*, const char*, const char*, const char*, sd_bus_message* reply, void* self,
                 sd_bus_error*) noexcept {
    MessageWriter writer(reply);
    (static_cast<const ManagerObject*>(self)->*Property)(writer);
    return writer.result();
  }

  int answer_forward(sd_bus_message* call, const Answer<std::string>& id, sd_bus_error* error);

  sd_bus* bus_;
  Control& control_;
  Lifelines& lifelines_;
  std::multimap<std::string, MessagePtr> waiting_calls_;  ///< of Forward, by the forward's id
  std::uint32_t containers_ = 0;
  std::uint32_t forwards_ = 0;
  SlotPtr object_;
  SlotPtr object_manager_;
};

}  // namespace portfwd
