// All that a person can ask of the daemon. The bus calls Control and is a ControlObserver; neither
// side includes the other's library. Calls are synchronous and never block: what takes time shows
// up later as a change.
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
  /// @param spec its container by name, id or unambiguous prefix of an id @param lifeline bus name
  /// whose end ends the forward; "" for none @return the forward's id
  virtual Answer<std::string> forward(const ForwardSpec& spec, std::string_view lifeline) = 0;
  virtual Answer<void> unforward(std::string_view forward_id) = 0;
  virtual Answer<std::string> attach_pid(pid_t pid, std::string_view name) = 0;
  virtual Answer<std::string> attach_netns(UniqueFd netns, std::string_view name) = 0;
  virtual Answer<void> detach(std::string_view container_id) = 0;
  /// @param container "" for any; keys at least: `forwarded` (bool), `summary` (one sentence),
  /// `seen`, `decision`, `host`, `reach`, `remedy` (lists of sentences or one)
  virtual Answer<Facts> explain(std::string_view container, std::string_view target) = 0;
  virtual Answer<void> reload() = 0;
  /// The owner of a lifeline has left the bus.
  virtual void lifeline_ended(std::string_view bus_name) = 0;

  [[nodiscard]] virtual std::vector<Event> events_after(std::uint64_t seq) const = 0;
  [[nodiscard]] virtual Facts status() const = 0;
  [[nodiscard]] virtual std::string instance_id() const = 0;
  [[nodiscard]] virtual std::uint64_t poll_interval_usec() const = 0;
  [[nodiscard]] virtual std::vector<ForwardInfo> forwards() const = 0;
  [[nodiscard]] virtual std::vector<ContainerInfo> containers() const = 0;
  /// As of now, of all forwards or of one; none if there is no such forward. @param forward_id ""
  /// for all
  [[nodiscard]] virtual std::vector<ForwardCounters> counters(
      std::string_view forward_id = "") const = 0;

 protected:
  ~Control() = default;
};

}  // namespace portfwd
