// One gate before all listeners: when the process runs out of descriptors, accepting stops
// everywhere at once and comes back by itself, so that nothing spins and nobody is dropped: whoever
// waits stays in the kernel's queue. It closes a little early, since a client that was accepted
// needs a second descriptor to be dialled for. Owned by main; listeners join it. It accepts nothing
// itself.
#pragma once

#include <vector>

#include "event/event_loop.h"

namespace portfwd {

class AcceptGateObserver {
 public:
  /// Once per shortage, however often accepting pauses and resumes in it.
  /// @param error EMFILE (the limit of this process), ENFILE (of the machine), ENOBUFS, ENOMEM
  virtual void on_descriptors_short(const Error& error) = 0;

 protected:
  ~AcceptGateObserver() = default;
};

class AcceptGate {
 public:
  class Member {
   public:
    /// The gate has opened or closed: compute your interest anew.
    virtual void on_gate() = 0;

   protected:
    ~Member() = default;
  };

  /// A retry costs one accept(2) per listener that has somebody waiting.
  static constexpr Duration kRetry = std::chrono::milliseconds(100);
  /// After a descriptor came free; not at once, since re-arming costs a call per listener.
  static constexpr Duration kSoon = std::chrono::milliseconds(10);

  /// Descriptors kept for what accepted clients and everybody else still need; less with a low
  /// limit.
  static constexpr int kReserve = 256;

  /// Reads RLIMIT_NOFILE, which is to be raised before. @param observer borrowed
  AcceptGate(EventLoop& loop, AcceptGateObserver& observer);
  AcceptGate(const AcceptGate&) = delete;
  AcceptGate& operator=(const AcceptGate&) = delete;

  void join(Member& member) { members_.push_back(&member); }
  void leave(Member& member) noexcept { std::erase(members_, &member); }

  [[nodiscard]] bool is_open() const { return !reopen_.armed(); }
  /// accept(2) failed for want of what `error` says.
  void close(const Error& error);
  /// accept(2) gave `fd`. The kernel gives the lowest free number, so it tells how many are in use.
  void accepted(int fd);
  /// A connection has ended: there may be room again.
  void descriptor_freed();
  /// Somebody has accepted all that waited: the shortage, if there was one, is over.
  void queue_is_empty() { reported_ = !is_open(); }

 private:
  void try_to_open();
  void tell_members();
  [[nodiscard]] bool has_room() const;

  EventLoop& loop_;
  AcceptGateObserver& observer_;
  std::vector<Member*> members_;
  int accept_below_;  ///< descriptor number
  TimePoint closed_at_{};
  bool reported_ = false;
  Timer reopen_;  ///< armed while closed
};

}  // namespace portfwd
