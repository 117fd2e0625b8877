// Accept throttling for all listeners, for when descriptors run short: at first the members with
// the most connections pause, then all members, so that one forward with very many connections
// leaves descriptors to the others, and all forwards leave some to detection and control. Nothing
// spins and no client is dropped: clients wait in the kernel's queue, and accepting resumes without
// an event from outside. Owned by RelayParts; its members accept.
//
//   descriptors in use    0 ─────────────── short_from ─────────────── reserve_from ────── all
//   members admitted            all             those with few connections         none
#pragma once

#include <cassert>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/unique_fd.h"
#include "event/event_loop.h"

namespace portfwd {

/// Which members pause for want of descriptors.
enum class Shortage : std::uint8_t { None, BusiestWait, AllWait };

class AcceptGate {
 public:
  /// One listener, or one set of flows: something that takes a descriptor for each client. Pinned;
  /// the gate outlives it.
  class Member {
   public:
    /// Called when admitted() may have changed. Must not make or destroy members.
    using OnChange = std::move_only_function<void()>;
    /// @param on_change may be empty
    explicit Member(AcceptGate& gate, OnChange on_change = nullptr);
    Member(const Member&) = delete;
    Member& operator=(const Member&) = delete;
    ~Member();

    [[nodiscard]] bool admitted() const { return gate_.admits(*this); }
    /// A client of this member has the descriptor `fd` now. The kernel gives out the lowest free
    /// number, so it tells how many are in use.
    void accepted(int fd);
    /// How many clients of this member are connected.
    void set_connections(std::size_t count) { connections_ = count; }

   private:
    friend class AcceptGate;
    AcceptGate& gate_;
    OnChange on_change_;
    std::size_t connections_ = 0;
  };

  /// A descriptor that a client will need for its target's end: it counts as in use.
  class Claim {
   public:
    explicit Claim(AcceptGate& gate) : gate_(gate) { ++gate_.claimed_; }
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;
    ~Claim() {
      assert(gate_.claimed_ > 0);
      --gate_.claimed_;
    }

   private:
    AcceptGate& gate_;
  };

  /// Between two retries, each of which costs one accept(2) for every listener with a client in its
  /// queue.
  static constexpr Duration kRetry = std::chrono::milliseconds(100);
  /// After a descriptor was freed; not at once, since re-arming costs a call for every listener.
  static constexpr Duration kSoon = std::chrono::milliseconds(10);

  /// Called once for each shortage, however often accepting pauses and resumes in it, with EMFILE
  /// (the limit of this process), ENFILE (of the machine), ENOBUFS or ENOMEM.
  using OnShortage = std::move_only_function<void(const Error& error)>;

  /// Reads DescriptorLimits.
  AcceptGate(EventLoop& loop, OnShortage on_shortage);
  AcceptGate(const AcceptGate&) = delete;
  AcceptGate& operator=(const AcceptGate&) = delete;
  ~AcceptGate() { assert(members_.empty() && claimed_ == 0); }

  [[nodiscard]] Shortage shortage() const { return shortage_; }
  /// The shortage at this moment: descriptors may be short though no client has connected.
  [[nodiscard]] Shortage measured_shortage() const;
  /// How many members are not admitted.
  [[nodiscard]] std::size_t paused_members() const;

  /// accept(2) failed for want of what `error` says.
  void close(const Error& error) { enter(Shortage::AllWait, error); }
  /// A connection has ended: descriptors may be free again.
  void descriptor_freed();
  /// Whether set_queue_empty() is waited for.
  [[nodiscard]] bool shortage_reported() const { return reported_; }
  /// A member has accepted all clients in its queue: the shortage, if there was one, is over.
  void set_queue_empty() { reported_ = shortage_ != Shortage::None; }

 private:
  [[nodiscard]] bool admits(const Member& member) const;
  void enter(Shortage shortage, const Error& error);
  void measure_again();
  void set_shortage(Shortage shortage);
  [[nodiscard]] Shortage shortage_with(int in_use) const;

  EventLoop& loop_;
  OnShortage on_shortage_;
  std::vector<Member*> members_;
  DescriptorLimits limits_ = DescriptorLimits::read();
  int claimed_ = 0;
  Shortage shortage_ = Shortage::None;
  std::size_t most_connections_ = 0;  ///< of one member, when last measured
  TimePoint measured_at_{};
  bool reported_ = false;
  Timer measure_again_;  ///< armed while something is short
};

}  // namespace portfwd
