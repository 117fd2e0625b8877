// The interface of the daemon's core for user requests. The bus calls Control and is a
// ControlObserver, so the core does not depend on the bus library. Calls never block: an operation
// that takes time returns at once, and its result is notified as a change.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/facts.h"
#include "base/unique_fd.h"
#include "config/settings.h"
#include "forward/events.h"
#include "forward/model.h"

namespace portfwd {

struct ForwardCounters {
  std::string forward_id;
  Counters counters;
};

class Control {
 public:
  /// Creates a forward. @param spec with the container by name, id or unambiguous prefix of an id
  /// @param lifeline bus name with which the forward ends; "" for none @return the forward's id
  virtual Answer<std::string> forward(const ForwardSpec& spec, std::string_view lifeline) = 0;
  /// Whether the sockets on which a forward will listen are being made. When they are, or could not
  /// be, observers are notified of a change.
  [[nodiscard]] virtual bool is_pending(std::string_view forward_id) const = 0;
  virtual Answer<void> unforward(std::string_view forward_id) = 0;
  virtual Answer<std::string> attach_pid(pid_t pid, std::string_view name) = 0;
  virtual Answer<std::string> attach_netns(UniqueFd netns, std::string_view name) = 0;
  virtual Answer<void> detach(std::string_view container_id) = 0;
  /// Explains why a port is or is not forwarded. @param container "" for any @return at least the
  /// keys `forwarded` (bool), `summary`, `decision`, `host`, `reach`, `remedy` (a sentence each),
  /// `seen` (a list of sentences) and `remedies`
  virtual Answer<Facts> explain(std::string_view container, std::string_view target) = 0;
  virtual Answer<void> reload() = 0;
  /// Must be called when the owner of a lifeline has left the bus.
  virtual void lifeline_ended(std::string_view bus_name) = 0;

  [[nodiscard]] virtual std::vector<Event> events_after(std::uint64_t seq) const = 0;
  [[nodiscard]] virtual Facts status() const = 0;
  [[nodiscard]] virtual std::string instance_id() const = 0;
  [[nodiscard]] virtual std::uint64_t poll_interval_usec() const = 0;
  [[nodiscard]] virtual std::vector<ForwardInfo> forwards() const = 0;
  [[nodiscard]] virtual std::vector<ContainerInfo> containers() const = 0;
  /// The present counters of all forwards, or of one; empty if there is no such forward.
  /// @param forward_id "" for all
  [[nodiscard]] virtual std::vector<ForwardCounters> counters(
      std::string_view forward_id = "") const = 0;

 protected:
  ~Control() = default;
};

}  // namespace portfwd
