// Everything that people can see happen: what observers are notified of, the numbered events, the
// log that keeps the last thousand of them, and the lines of the journal. Forwards are notified by
// the ForwardSet, containers by the Controller, both through the one Notifier.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "forward/model.h"

namespace portfwd {

/// Appends it to `out`. A container's labels, listeners and published ports are left out: an event
/// has none.
void pack(const Event& event, std::string& out);
/// @param bytes all of what one pack() appended
[[nodiscard]] Event unpack(std::string_view bytes);

/// Override what is of use. No call may come back into the daemon's core.
class ControlObserver {
 public:
  virtual void on_forward_added(const ForwardInfo&) {}
  virtual void on_forward_changed(const ForwardInfo&) {}
  virtual void on_forward_removed(const ForwardInfo&) {}
  virtual void on_container_added(const ContainerInfo&) {}
  virtual void on_container_changed(const ContainerInfo&) {}
  virtual void on_container_removed(const ContainerInfo&) {}
  /// Follows the call for the object itself: the numbered fact, for signals and the journal. Each
  /// PortRemoved follows a PortAdded of the same forward.
  virtual void on_event(const Event&) {}
  /// A container, with those that count together with it (ForwardGroups), has more ports than
  /// `max_forwards`; notified once until there are fewer.
  virtual void on_limit(const Container&, unsigned /*limit*/) {}

 protected:
  ~ControlObserver() = default;
};

/// The last events, numbered without gaps. What it forgets it says: a reader who asks for older
/// numbers gets a Gap first, and so does one who asks for those of the daemon's life before. Owned
/// by the Notifier.
class EventLog {
 public:
  static constexpr std::size_t kKept = 1000;

  /// The next event gets this number; those before are forgotten. Precondition: there is no event.
  void resume(std::uint64_t next, WallTime now);
  /// Numbers the event and keeps it. @return the numbered one
  Event append(Event event);
  /// Those strictly after `seq`; led by one Gap when some of them are forgotten.
  [[nodiscard]] std::vector<Event> after(std::uint64_t seq) const;
  [[nodiscard]] std::uint64_t last() const { return next_ - 1; }
  [[nodiscard]] std::uint64_t next() const { return next_; }
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
  WallTime resumed_{};
};

/// Notifies all observers, in the order in which they were added, and numbers and keeps the events.
/// Owned by main.
class Notifier {
 public:
  explicit Notifier(const Clock& clock) : clock_(clock) {}
  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;

  /// @param observer borrowed: nobody notifies once it is gone; not to be added while it is
  /// notified
  void add(ControlObserver& observer) { observers_.push_back(&observer); }

  /// @param member such as &ControlObserver::on_forward_added
  template <class... Parameters, class... Arguments>
  void notify(void (ControlObserver::*member)(Parameters...), const Arguments&... arguments) {
    for (ControlObserver* observer : observers_) (observer->*member)(arguments...);
  }
  /// Gives the event its number and its time. A container in it loses its lists, see Event.
  void emit(Event event);

  [[nodiscard]] EventLog& log() { return log_; }
  [[nodiscard]] const EventLog& log() const { return log_; }

 private:
  const Clock& clock_;
  EventLog log_;
  std::vector<ControlObserver*> observers_;
};

/// Events as lines for people, with fields for the journal. Owned by main. It changes nothing.
class Journal final : public ControlObserver {
 public:
  void on_forward_changed(const ForwardInfo& forward) override;
  void on_event(const Event& event) override;
  void on_limit(const Container& container, unsigned limit) override;
};

}  // namespace portfwd
