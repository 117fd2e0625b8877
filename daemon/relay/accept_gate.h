// Accept throttling for all listeners. When descriptors are short, the members with the most
// connections pause first, then all members. So one forward with very many connections leaves
// descriptors to the others, and all forwards leave some to discovery and control. Nothing spins
// and no client is dropped: clients wait in the kernel's queue, and a timer resumes accepting.
// Owned by RelayParts; its members accept.
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

/// Which members pause because descriptors are short.
enum class Shortage : std::uint8_t { None, BusiestWait, AllWait };

class AcceptGate {
 public:
  /// A user of one descriptor for each client: a listener, or a set of flows. Pinned; the gate must
  /// outlive it.
  class Member {
   public:
    /// Called when admitted() may have changed. Must not create or destroy members.
    using OnChange = std::move_only_function<void()>;
    /// @param on_change may be empty
    explicit Member(AcceptGate& gate, OnChange on_change = nullptr);
    Member(const Member&) = delete;
    Member& operator=(const Member&) = delete;
    ~Member();

    /// Whether this member may accept clients at present.
    [[nodiscard]] bool admitted() const { return gate_.admits(*this); }
    /// A client of this member has got the descriptor `fd`. The kernel assigns the lowest free
    /// number, so `fd` measures how many are in use.
    void accepted(int fd);
    /// Sets the number of clients of this member that are connected.
    void set_connections(std::size_t count) { connections_ = count; }

   private:
    friend class AcceptGate;
    AcceptGate& gate_;
    OnChange on_change_;
    std::size_t connections_ = 0;
  };

  /// A descriptor that a client will need for its connection to the target; it counts as in use.
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

  /// Interval of retries, each of which costs one accept(2) for every listener with a client in its
  /// queue.
  static constexpr Duration kRetry = std::chrono::milliseconds(100);
  /// Least time between two retries when descriptors are freed, since re-arming costs a system call
  /// for every listener.
  static constexpr Duration kEarliestRetry = std::chrono::milliseconds(10);

  /// Called once for each shortage, even if accepting pauses and resumes several times in it, with
  /// EMFILE (limit of this process), ENFILE (limit of the machine), ENOBUFS or ENOMEM.
  using OnShortage = std::move_only_function<void(const Error& error)>;

  /// Reads DescriptorLimits.
  AcceptGate(EventLoop& loop, OnShortage on_shortage);
  AcceptGate(const AcceptGate&) = delete;
  AcceptGate& operator=(const AcceptGate&) = delete;
  ~AcceptGate() { assert(members_.empty() && claimed_ == 0); }

  [[nodiscard]] Shortage shortage() const { return shortage_; }
  /// The shortage at this moment. Descriptors may be short although no client has connected.
  [[nodiscard]] Shortage measured_shortage() const;
  /// The number of members that are not admitted.
  [[nodiscard]] std::size_t paused_members() const;

  /// Must be called when accept(2) has failed with an error of a shortage. All members pause.
  void close(const Error& error) { enter(Shortage::AllWait, error); }
  /// Must be called when a connection has ended: descriptors may be free again.
  void descriptor_freed();
  /// Whether a shortage was reported and set_queue_empty() has not ended it yet.
  [[nodiscard]] bool shortage_reported() const { return reported_; }
  /// Must be called when a member has accepted all clients in its queue. Unless descriptors are
  /// still short, this ends the reported shortage: the next one is reported again.
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
  std::size_t most_connections_ = 0;  ///< of one member, at measured_at_
  TimePoint measured_at_{};
  bool reported_ = false;
  Timer measure_again_;  ///< armed while something is short
};

}  // namespace portfwd
