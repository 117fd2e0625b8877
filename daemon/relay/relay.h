// One connection: two stream sockets and a pump each way. Owned by its ForwardPort, retired when it
// is over. It never asks what the sockets are, and knows neither users nor containers.
//
// Each direction closes by itself: the end of input becomes a FIN at the other side, and the way
// back lives on. A reset is not an end: when one side breaks, nothing more is written to it, what
// it had sent before still goes out, and then the other side is reset too, so that nobody takes a
// truncated stream for a whole one. A Unix socket knows no reset, but that its peer has closed with
// bytes unread: there it is seen as an end of stream. Descriptors that are sent along are dropped.
#pragma once

#include "event/event_loop.h"
#include "net/address.h"
#include "relay/forward_port.h"
#include "relay/pump.h"

namespace portfwd {

class Relay;

class RelayObserver {
 public:
  /// Both sockets are closed, unless take_turned_away() has the client's. The last call; the relay
  /// may be retired, not destroyed, from within.
  virtual void on_relay_over(Relay& relay) = 0;

 protected:
  ~RelayObserver() = default;
};

class Relay final : public Retirable, private IoHandler {
 public:
  /// @param client, target connected, non-blocking @param counters bytes_in counts what the target
  /// took; everything else is left alone. All references are borrowed.
  Relay(RelayContext& context, UniqueFd client, UniqueFd target, Counters& counters,
        RelayObserver& observer);
  ~Relay() override;

  /// Begins to relay, with what the client may have sent already: most clients speak first. The
  /// observer may be called from within, where the client has reset the connection. Fails with what
  /// epoll_ctl(2) says; then it must be aborted.
  Result<void> start();
  /// Resets both sides at once. No call to the observer.
  void abort();
  /// The client's socket, where the target has reset the connection soon after it was made and
  /// before either side had sent a byte, as for one that was in the backlog of a server that has
  /// closed: it can be dialled for again. Else invalid. To be asked when the relay is over.
  [[nodiscard]] UniqueFd take_turned_away();

  std::uint32_t slot = 0;      ///< the owner's; see Roster
  std::uint32_t burst = 0;     ///< the owner's; see LoopGuard
  Family family = Family::V4;  ///< the owner's: of the client
  bool redialled = false;      ///< the owner's: see WaitingClient

 private:
  /// One side, and the pump that carries what comes in here to the other one.
  struct End {
    End(RelayContext& context, UniqueFd socket, int other, std::uint64_t& delivered, IoHandler& h)
        : fd(std::move(socket)),
          source(context.loop(), fd.get(), h),
          pump(context, fd.get(), other, delivered) {}
    [[nodiscard]] bool done() const { return state == PumpState::Finished; }

    UniqueFd fd;
    IoSource source;
    Pump pump;
    PumpState state = PumpState::NeedsInput;  ///< never one of the broken ones for long
    bool broken = false;                      ///< was reset: takes no bytes and says nothing new
    bool told_end = false;                    ///< was sent a FIN
    bool hung_up = false;  ///< closed both ways without an error: epoll has no more news of it
  };

  void on_io(IoSource& source, std::uint32_t events) override;
  void advance(End& from, End& to, std::size_t most = Pump::kBytesPerTurn);
  void look_for_reset(End& end, End& other);
  static void mark_broken(End& end, End& other);
  static std::uint32_t interest(const End& end, const End& other);
  [[nodiscard]] bool end_if_done();
  [[nodiscard]] Result<void> watch_both();
  void settle();
  void end_with_reset(End& lost, End& survivor);
  [[nodiscard]] bool was_turned_away() const;
  void hear_out(End& survivor);
  void finish();
  void close_both();

  RelayContext& context_;
  RelayObserver& observer_;
  End client_;
  End target_;
  TimePoint began_;
  bool turned_away_ = false;
};

}  // namespace portfwd
