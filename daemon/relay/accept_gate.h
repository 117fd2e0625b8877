// One gate before all listeners, for when descriptors run short: first those wait that have the
// most connections, then all, so that one forward in a storm leaves something to the others, and
// all of them to detection and control. Nothing spins and nobody is dropped: whoever waits stays in
// the kernel's queue, and accepting comes back by itself. Owned by main; listeners join it. It
// accepts nothing itself.
//
//   descriptors in use    0 ─────────────── short_from ─────────────── reserve_from ────── all
//   who is admitted             all             those with few connections         nobody
#pragma once

#include <cstdint>
#include <vector>

#include "base/unique_fd.h"
#include "event/event_loop.h"

namespace portfwd {

/// Who waits, for want of descriptors.
enum class Shortage : std::uint8_t { None, BusiestWait, AllWait };

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
    /// Perhaps it is admitted where it was not, or the other way round: compute your interest anew.
    virtual void on_gate() = 0;
    /// How many connections it has now.
    [[nodiscard]] virtual std::size_t connections() const = 0;

   protected:
    ~Member() = default;
  };

  /// A client that was let in and has no far end yet will need a descriptor for that: it counts as
  /// in use.
  class Claim {
   public:
    explicit Claim(AcceptGate& gate) : gate_(gate) { ++gate_.claimed_; }
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;
    ~Claim() { --gate_.claimed_; }

   private:
    AcceptGate& gate_;
  };

  /// A retry costs one accept(2) per listener that has somebody waiting.
  static constexpr Duration kRetry = std::chrono::milliseconds(100);
  /// After a descriptor came free; not at once, since re-arming costs a call per listener.
  static constexpr Duration kSoon = std::chrono::milliseconds(10);

  /// Reads DescriptorLimits. @param observer borrowed
  AcceptGate(EventLoop& loop, AcceptGateObserver& observer);
  AcceptGate(const AcceptGate&) = delete;
  AcceptGate& operator=(const AcceptGate&) = delete;

  void join(Member& member) { members_.push_back(&member); }
  void leave(Member& member) noexcept { std::erase(members_, &member); }

  [[nodiscard]] bool admits(const Member& member) const;
  [[nodiscard]] Shortage shortage() const { return shortage_; }
  /// As shortage(), of this moment: it may be short though nobody has connected.
  [[nodiscard]] Shortage measured_shortage() const;
  /// How many members are not admitted.
  [[nodiscard]] std::size_t kept_waiting() const;

  /// accept(2) failed for want of what `error` says.
  void close(const Error& error) { enter(Shortage::AllWait, error); }
  /// accept(2) gave `fd`. The kernel gives the lowest free number, so it tells how many are in use.
  void accepted(int fd, Member& by);
  /// A connection has ended: there may be room again.
  void descriptor_freed();
  /// Whether queue_is_empty() is waited for.
  [[nodiscard]] bool shortage_reported() const { return reported_; }
  /// Somebody has accepted all that waited: the shortage, if there was one, is over.
  void queue_is_empty() { reported_ = shortage_ != Shortage::None; }

 private:
  void enter(Shortage shortage, const Error& error);
  void look_again();
  void settle(Shortage shortage);
  [[nodiscard]] Shortage shortage_with(int in_use) const;

  EventLoop& loop_;
  AcceptGateObserver& observer_;
  std::vector<Member*> members_;
  DescriptorLimits limits_ = DescriptorLimits::read();
  int claimed_ = 0;
  Shortage shortage_ = Shortage::None;
  std::size_t most_connections_ = 0;  ///< of one member, at the last look
  TimePoint looked_at_{};
  bool reported_ = false;
  Timer look_again_;  ///< armed while something is short
};

}  // namespace portfwd
