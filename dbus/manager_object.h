// /org/portfwd1 on the bus: requests in, Control's answers out, events as signals. Owned by the
// exports. Every method is one call of Control; the only state here are the two counts.
#pragma once

#include <manager_adaptor.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "api/control.h"
#include "dbus/sdbus_compat.h"

namespace portfwd {

// Callers whose forwards end with their bus connection (`while_connected`). Owned by the exports.
// Only names that somebody asked about are watched: a match on all names would wake the daemon for
// every program that leaves the bus.
class Lifelines {
 public:
  /// @param ended called with a unique name once its owner has left; from a message handler.
  Lifelines(sdbus::IConnection& connection, std::function<void(const std::string&)> ended)
      : connection_(connection), ended_(std::move(ended)) {}
  Lifelines(const Lifelines&) = delete;
  Lifelines& operator=(const Lifelines&) = delete;

  /// Watches `name`; waits for the bus, 0.4 s at most. @return false when its owner has already
  /// gone. Throws sdbus::Error.
  [[nodiscard]] bool watch(const std::string& name);
  /// Lets go of the matches of names that have ended. Not from a message handler.
  void forget_ended();

 private:
  void end(const std::string& name);

  sdbus::IConnection& connection_;
  std::function<void(const std::string&)> ended_;
  std::map<std::string, sdbus::Slot> matches_;
  std::vector<std::string> over_;
};

/// Whether somebody on the bus owns `name`. Blocks for the bus's answer. Throws sdbus::Error.
[[nodiscard]] bool name_has_owner(sdbus::IConnection& connection, const std::string& name);

// The options of Manager.Forward: a dictionary from outside, checked key by key. A key that is not
// known or has the wrong type is an error that names it, never ignored.
struct RequestedForward {
  ForwardSpec spec;  ///< without container and target
  bool while_connected = false;
};

/// Throws org.portfwd1.Error.InvalidArgument.
[[nodiscard]] RequestedForward parse_forward_options(const Properties& options);

class ManagerObject final : public sdbus::AdaptorInterfaces<org::portfwd1::Manager_adaptor,
                                                            sdbus::ObjectManager_adaptor> {
 public:
  ManagerObject(sdbus::IConnection& connection, Control& control, Lifelines& lifelines);
  ManagerObject(const ManagerObject&) = delete;
  ManagerObject& operator=(const ManagerObject&) = delete;
  ~ManagerObject() { unregisterAdaptor(); }

  void emit(const Event& event);
  /// PropertiesChanged if a count differs from the last.
  void set_counts(std::size_t containers, std::size_t forwards);

 private:
  using EventRow = sdbus::Struct<std::uint64_t, std::uint64_t, std::string, sdbus::ObjectPath,
                                 Properties>;  ///< ttsoa{sv}

  using CountersRow = sdbus::Struct<sdbus::ObjectPath, std::uint64_t, std::uint64_t, std::uint64_t,
                                    std::uint64_t, std::uint64_t, std::uint64_t>;  ///< otttttt

  sdbus::ObjectPath Forward(const std::string& container, const std::string& target,
                            const Properties& options) override;
  void Unforward(const sdbus::ObjectPath& forward) override;
  sdbus::ObjectPath AttachPid(const std::uint32_t& pid, const std::string& name) override;
  sdbus::ObjectPath AttachNetns(const sdbus::UnixFd& netns, const std::string& name) override;
  void Detach(const sdbus::ObjectPath& container) override;
  std::vector<EventRow> GetEvents(const std::uint64_t& after_seq) override;
  std::vector<CountersRow> GetCounters() override;
  Properties Explain(const std::string& container, const std::string& target) override;
  Properties GetStatus() override;
  void Reload() override;

  std::string Version() override;
  std::string InstanceId() override;
  std::uint32_t Containers() override { return containers_; }
  std::uint32_t Forwards() override { return forwards_; }
  std::uint64_t PollIntervalUSec() override;

  Control& control_;
  Lifelines& lifelines_;
  std::uint32_t containers_ = 0;
  std::uint32_t forwards_ = 0;
};

}  // namespace portfwd
