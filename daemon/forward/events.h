// Events and their observers: the notifications of changes, the numbered events, the log of the
// last thousand events, and their lines in the journal. The ForwardSet notifies of forwards and the
// Controller of containers, through the one Notifier.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "forward/model.h"

namespace portfwd {

/// Appends the event to `out` in a compact binary form. The labels, listeners and published ports
/// of a container must be empty; Notifier::emit() clears them.
void pack(const Event& event, std::string& out);
/// Reverses pack(). @param bytes exactly those that one pack() appended
[[nodiscard]] Event unpack(std::string_view bytes);

/// Receives all notifications; override the functions of interest. They must not call back into the
/// daemon's core.
class ControlObserver {
 public:
  virtual void on_forward_added(const ForwardInfo&) {}
  virtual void on_forward_changed(const ForwardInfo&) {}
  virtual void on_forward_removed(const ForwardInfo&) {}
  virtual void on_container_added(const ContainerInfo&) {}
  virtual void on_container_changed(const ContainerInfo&) {}
  virtual void on_container_removed(const ContainerInfo&) {}
  /// The numbered event, for signals and the journal. It follows the call for the object itself.
  /// Each PortRemoved follows a PortAdded of the same forward.
  virtual void on_event(const Event&) {}
  /// A container, with the others of its ForwardGroups group, has more ports than `max_forwards`.
  /// Called once until no container of the group lacks a forward.
  virtual void on_limit(const Container&, unsigned /*limit*/) {}

 protected:
  ~ControlObserver() = default;
};

/// The last kKept events, numbered without gaps. A reader that asks for events which are no longer
/// kept, or which the daemon emitted before a restart, gets a Gap first. Owned by the Notifier.
class EventLog {
 public:
  static constexpr std::size_t kKept = 1000;

  /// Continues the numbers of the last run: the next event gets the number `next`. Must precede the
  /// first append().
  void resume(std::uint64_t next, WallTime now);
  /// Numbers and keeps an event. @return it with its number
  Event append(Event event);
  /// The events with numbers above `seq`, preceded by a Gap if some of them are no longer kept.
  [[nodiscard]] std::vector<Event> after(std::uint64_t seq) const;
  [[nodiscard]] std::uint64_t last() const { return next_ - 1; }
  [[nodiscard]] std::uint64_t next() const { return next_; }
  /// The last PortRemoved of a port, if it is still kept. @param container id or name; "" for any
  [[nodiscard]] std::optional<Event> last_removal(std::string_view container,
                                                  const Target& target) const;
  /// The container with this id, if its last ContainerRemoved has the reason "detached".
  [[nodiscard]] std::optional<ContainerInfo> detached(std::string_view container_id) const;

 private:
  [[nodiscard]] std::uint64_t oldest() const { return next_ - sizes_.size(); }
  void forget_oldest();

  std::string bytes_;                ///< packed events, after `forgotten_` unused bytes
  std::deque<std::uint32_t> sizes_;  ///< bytes of each event that is kept, the oldest first
  std::size_t unused_bytes_ = 0;
  std::uint64_t next_ = 1;
  WallTime resumed_{};
};

/// The observers and the log of events. Notifies the observers in the order in which they were
/// added. Owned by main.
class Notifier {
 public:
  explicit Notifier(const Clock& clock) : clock_(clock) {}
  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;

  /// @param observer borrowed, must outlive the last notification. Must not be called from within a
  /// notification.
  void add(ControlObserver& observer) { observers_.push_back(&observer); }

  /// @param member such as &ControlObserver::on_forward_added
  template <class... Parameters, class... Arguments>
  void notify(void (ControlObserver::*member)(Parameters...), const Arguments&... arguments) {
    for (ControlObserver* observer : observers_) (observer->*member)(arguments...);
  }
  /// Sets the number and the time of an event, keeps it and notifies the observers. Clears the
  /// lists of a container in it, see Event.
  void emit(Event event);

  [[nodiscard]] EventLog& log() { return log_; }
  [[nodiscard]] const EventLog& log() const { return log_; }

 private:
  const Clock& clock_;
  EventLog log_;
  std::vector<ControlObserver*> observers_;
};

/// The log lines for events, limits and conflicts, with fields for the journal. Owned by main.
class Journal final : public ControlObserver {
 public:
  void on_forward_changed(const ForwardInfo& forward) override;
  void on_event(const Event& event) override;
  void on_limit(const Container& container, unsigned limit) override;
};

}  // namespace portfwd
