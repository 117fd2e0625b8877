// A client that was let in and has no far end yet: held until there is something to dial, or being
// dialled for. Owned by its ForwardPort. Not a byte of it is read: what it sends waits in the
// kernel. It knows neither counters nor modes.
#pragma once

#include <memory>

#include "event/event_loop.h"
#include "relay/accept_gate.h"
#include "relay/dialer.h"

namespace portfwd {

class WaitingClient;

class WaitingClientObserver {
 public:
  // In each, `client` may be retired, not destroyed.
  virtual void on_connected(WaitingClient& client, UniqueFd target) = 0;
  virtual void on_dial_failed(WaitingClient& client, const Error& error) = 0;
  /// It was held too long, or has reset the connection. A client that has only shut down its
  /// sending side still waits for an answer: that is not "gone".
  virtual void on_hold_over(WaitingClient& client) = 0;

 protected:
  ~WaitingClientObserver() = default;
};

class WaitingClient final : public Retirable, private IoHandler, private DialHandler {
 public:
  /// @param gate borrowed: it is told that a far end will be needed
  WaitingClient(EventLoop& loop, AcceptGate& gate, UniqueFd client, Family family,
                WaitingClientObserver& observer);
  /// Resets the client unless it was released.
  ~WaitingClient() override;

  /// Gives up a dial under way and waits instead, at most until `deadline`.
  void hold(TimePoint deadline);
  /// @param dialer borrowed until the outcome, or until hold() or the end of the client
  /// @return the target's end, where it has accepted at once; else the observer is told later
  [[nodiscard]] UniqueFd dial(Dialer& dialer, std::span<const Address> candidates,
                              TimePoint deadline);
  /// Ends a dial under way, or holding.
  void stop();

  [[nodiscard]] Family family() const { return family_; }
  [[nodiscard]] bool dialling() const { return dial_ != nullptr; }
  [[nodiscard]] bool held() const { return hold_over_.armed(); }
  /// Whether it has reset the connection.
  [[nodiscard]] bool gone() const { return gone_; }
  [[nodiscard]] int socket() const { return client_.get(); }
  /// Gives up the client's socket, which nothing watches from then on.
  [[nodiscard]] UniqueFd release();

  std::uint32_t slot = 0;  ///< the owner's; see Roster
  bool refused = false;    ///< the owner's: it waits for a second look at who refused it
  bool redialled = false;  ///< the owner's: that was the second look
  bool suspected = false;  ///< the owner's: held by its LoopGuard

 private:
  void on_io(IoSource& source, std::uint32_t events) override;
  void on_dialled(Result<UniqueFd> connected) override;

  EventLoop& loop_;
  AcceptGate::Claim claim_;
  WaitingClientObserver& observer_;
  Family family_;
  UniqueFd client_;
  IoSource source_;
  Timer hold_over_;
  std::unique_ptr<Dial> dial_;
  bool gone_ = false;
};

}  // namespace portfwd
