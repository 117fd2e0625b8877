// The last thousand things that came or went, numbered without gaps. Owned by the controller; what
// it forgets it says: a reader who asks for older numbers gets a Gap first.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/control.h"
#include "forward/model.h"

namespace portfwd {

/// Appends it to `out`. A container's labels, listeners and published ports are left out: an event
/// has none.
void pack(const Event& event, std::string& out);
/// @param bytes all of what one pack() appended
[[nodiscard]] Event unpack(std::string_view bytes);

class EventLog {
 public:
  static constexpr std::size_t kKept = 1000;

  /// Numbers the event and keeps it. @return the numbered one
  Event append(Event event);
  /// Those strictly after `seq`; led by one Gap when some of them are forgotten.
  [[nodiscard]] std::vector<Event> after(std::uint64_t seq) const;
  [[nodiscard]] std::uint64_t last() const { return next_ - 1; }
  /// The last PortRemoved of that port that is remembered.
  /// @param container id or name; "" any
  [[nodiscard]] std::optional<Event> last_removal(std::string_view container,
                                                  const Target& target) const;
  /// The container with this id, if it was last removed by hand.
  [[nodiscard]] std::optional<ContainerInfo> detached(std::string_view container_id) const;

 private:
  [[nodiscard]] std::uint64_t oldest() const { return next_ - sizes_.size(); }
  void forget_oldest();

  std::string bytes_;                ///< packed; the first `forgotten_` are of no use any more
  std::deque<std::uint32_t> sizes_;  ///< of each that is kept, the oldest first
  std::size_t forgotten_ = 0;
  std::uint64_t next_ = 1;
};

// What came and went, as lines for people and fields for the journal. Owned by main, called by the
// controller. It changes nothing.
class Journal final : public ControlObserver {
 public:
  void on_forward_added(const ForwardInfo&) override {}
  void on_forward_changed(const ForwardInfo& forward) override;
  void on_forward_removed(const ForwardInfo&) override {}
  void on_container_added(const ContainerInfo&) override {}
  void on_container_changed(const ContainerInfo&) override {}
  void on_container_removed(const ContainerInfo&) override {}
  void on_event(const Event& event) override;
};

}  // namespace portfwd
