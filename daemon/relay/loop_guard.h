// Detection of a target that leads back to its forward's own host port. A member of a StreamPort,
// which reports clients and connections to it and does what it returns.
//
// `ssh -R N:localhost:N` into a container is such a loop: sshd listens on N inside and connects to
// N on the host, so each connection that is dialled causes another client. A loop differs from a
// pool of idle clients by its cause: in a loop a client connects because the previous one was
// dialled for, and no byte is ever received, since there is no server at the end.
//
//   Counting   Clients are dialled for. Leads to Holding when kBurst clients in succession were
//              each accepted within kMaxFollowDelay of a connection that no other client had
//              followed, none of these connections has ended, and no byte was received from the
//              target.
//   Holding    Clients wait for a time that differs in each round. If a client connects that no
//              connection explains, there is no loop: back to Counting, and no Holding for
//              kNoSuspicionTime.
//   Released   The clients that waited are dialled for. A client within kMaxFollowDelay leads to
//   the next
//              round of Holding, or after the last round of kHolds to Refusing. A later client, or
//              the end of a connection, leads back to Counting.
//   Refusing   A loop was found: clients are refused for kRefusalTime. Then Counting, where
//   kRepeated
//              clients are enough until a byte is received from the target.
//
// A client that opens its connections one after the other waits for bytes from the target, or does
// not notice when it is dialled for. The times of the rounds differ so that a client with a period
// of its own cannot match all of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/clock.h"

namespace portfwd {

class LoopGuard {
 public:
  static constexpr unsigned kBurst = 32;
  static constexpr unsigned kRepeated = 4;
  static constexpr unsigned kParallel = 8;  ///< concurrent loops that are distinguished
  static constexpr Duration kMaxFollowDelay = std::chrono::milliseconds(50);
  static constexpr std::array<Duration, 4> kHolds{
      std::chrono::milliseconds(100), std::chrono::milliseconds(70), std::chrono::milliseconds(130),
      std::chrono::milliseconds(85)};
  static constexpr Duration kNoSuspicionTime = std::chrono::seconds(1);
  static constexpr Duration kRefusalTime = std::chrono::seconds(5);

  enum class Step : std::uint8_t {
    Dial,
    Hold,        ///< until held_until()
    Refuse,      ///< reset this client
    ResetBurst,  ///< reset this client and all connections of burst()
  };

  /// Decides about a client that was accepted. Must be called only while the port serves.
  /// @param from_target number of bytes that the target has sent through this forward so far
  [[nodiscard]] Step on_client(TimePoint now, std::uint64_t from_target);
  /// A client was connected to the target. Its connection belongs to burst().
  void on_connected(TimePoint now);
  /// A connection of burst(), or a client that was held, has ended.
  void on_ended(TimePoint now);
  /// held_until() has passed.
  void on_hold_over();
  /// Returns to the initial state, with a new burst(), because the target may be another one.
  void reset();

  /// Whether clients for which Step::Hold was returned must continue to wait; otherwise they must
  /// be dialled for.
  [[nodiscard]] bool holding() const { return state_ == State::Holding; }
  [[nodiscard]] TimePoint held_until() const { return held_until_; }
  /// Number of the present burst: a sequence of clients that may be a loop.
  [[nodiscard]] std::uint32_t burst() const { return burst_; }
  /// Whether a loop was found and nothing has disproved it since.
  [[nodiscard]] bool found() const { return found_; }

 private:
  enum class State : std::uint8_t { Counting, Holding, Released, Refusing };

  void start_burst(std::uint64_t from_target);
  void suspend_detection(TimePoint now);
  [[nodiscard]] Step hold(TimePoint now);

  State state_ = State::Counting;
  bool found_ = false;
  std::uint8_t round_ = 0;       ///< index in kHolds
  std::uint8_t unfollowed_ = 0;  ///< connections without a following client, at most kParallel
  std::uint32_t burst_ = 1;
  std::uint32_t size_ = 0;  ///< number of clients of the burst
  std::uint64_t from_target_ = 0;
  TimePoint connected_{};  ///< when the last client was connected
  TimePoint held_until_{};
  TimePoint trusted_until_{};
  TimePoint refused_until_{};
};

}  // namespace portfwd
