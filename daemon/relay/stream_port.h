// One TCP forward, from its host port to its target: ties a HostListener, a Dialer, the clients
// that wait and the relays together, and counts. See ForwardPort for who owns it and what it is
// told.
//
// A client is let in or reset at accept, before one byte of it is read. Then it is dialled for
// (serving) or held (holding). A target that refuses means a RST for the client, after a second
// look: perhaps its listener has just gone and is about to come back. A client that was refused
// waits kSecondLook for news; without any it is dialled for once more, and reset if that is refused
// too. A target that leads back to this host port is found by the LoopGuard.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "config/settings.h"
#include "event/event_loop.h"
#include "net/address.h"
#include "relay/accept_gate.h"
#include "relay/dialer.h"
#include "relay/forward_port.h"
#include "relay/host_listener.h"
#include "relay/loop_guard.h"
#include "relay/relay.h"

namespace portfwd {

// The header of the PROXY protocol, which tells a server behind a forward who its client is. Pure;
// the ForwardPort sends it before the first byte of the client's.
// Source: "The PROXY protocol, versions 1 & 2", sections 2.1 and 2.2.
/// @param version V1 or V2 @param client, host both ends of the accepted connection, of one family,
/// which the header takes; what family the server is dialled in does not matter
/// @return at most 107 bytes
[[nodiscard]] std::string proxy_header(ProxyProtocol version, const Endpoint& client,
                                       const Endpoint& host);

// A client that was let in and has no far end yet: held until there is something to dial, or being
// dialled for. Owned by its ForwardPort. Not a byte of it is read: what it sends waits in the
// kernel. It knows neither counters nor modes.
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

  std::uint32_t index = 0;  ///< the owner's; see SlotVector
  bool refused = false;     ///< the owner's: it waits for a second look at who refused it
  bool redialled = false;   ///< the owner's: that was the second look
  bool suspected = false;   ///< the owner's: held by its LoopGuard

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

class StreamPort final : public ForwardPort, private ClientSink, private WaitingClientObserver {
 public:
  static constexpr Duration kSecondLook = std::chrono::milliseconds(100);

  StreamPort(const RelayServices& services, ForwardPortSettings settings,
             ForwardPortObserver& observer);
  /// Resets whoever is still connected.
  ~StreamPort() override;

  [[nodiscard]] std::expected<void, BindFailure> bind(std::span<const Address> addresses) override;
  /// The same on sockets that somebody else has bound, see HostListener::adopt.
  [[nodiscard]] std::expected<void, BindFailure> adopt(std::vector<BoundSocket> sockets) {
    return listener_.adopt(std::move(sockets));
  }
  /// Clients for which a dial is under way wait again. Live relays go on.
  [[nodiscard]] std::expected<void, BindFailure> hold() override;
  [[nodiscard]] std::expected<void, BindFailure> serve(
      Dialer& dialer, std::span<const ListenAddress> listeners) override;
  /// Live relays may finish for `limit`, then they are reset.
  void drain(Duration limit) override;

  void configure(ForwardPortSettings settings) override;
  [[nodiscard]] const std::string& id() const override { return settings_.id; }
  [[nodiscard]] const Counters& counters() const override { return counters_; }
  [[nodiscard]] const std::vector<Address>& addresses() const override {
    return listener_.addresses();
  }
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }

 private:
  enum class Mode : std::uint8_t { Holding, Serving, Draining };

  void on_client(Arrival arrival) override;
  [[nodiscard]] std::size_t connections() const override {
    return waiting_.size() + relays_.size();
  }
  void on_connected(WaitingClient& client, UniqueFd target) override;
  void on_dial_failed(WaitingClient& client, const Error& error) override;
  void on_hold_over(WaitingClient& client) override;
  void on_relay_over(Relay& relay);

  [[nodiscard]] bool let_in(const Arrival& arrival);
  WaitingClient& add_waiting(UniqueFd client, Family family);
  void on_turned_away(UniqueFd socket, Family family, bool redialled);
  void wait_for_second_look(WaitingClient& client, const Error& error);
  void dial_or_hold(WaitingClient& client);
  void dial(WaitingClient& client);
  void dial_soon(WaitingClient& client);
  void dial_for_waiting();
  [[nodiscard]] LoopGuard::Step ask_guard();
  void dial_suspects();
  void cut_loop();
  [[nodiscard]] bool introduce(int client, int target) const;
  void dismiss(WaitingClient& client);
  void dismiss_all();
  void drop_relay(Relay& relay);
  void connection_ended();
  void observe_limit();
  void finish_drain();
  [[nodiscard]] std::expected<void, BindFailure> start_accepting();

  RelayServices services_;
  ForwardPortSettings settings_;
  ForwardPortObserver& observer_;
  Counters counters_;
  Mode mode_ = Mode::Holding;
  bool undialable_ = false;                         ///< so was the target when it was last dialled
  Dialer* dialer_ = nullptr;                        ///< with Serving
  std::array<std::vector<Address>, 2> candidates_;  ///< by the client's family
  RefusalLog refusals_;
  HostListener listener_;
  LoopGuard guard_;
  bool suspects_ = false;  ///< the guard holds clients
  SlotVector<WaitingClient> waiting_;
  RelayGroup relay_group_;
  SlotVector<Relay> relays_;
  Timer dial_waiting_;  ///< armed when clients of waiting_ are neither held nor dialled for
  Timer drain_over_;
};

}  // namespace portfwd
