// One forward of streams, from the place where it listens to its target: a StreamListener, the
// clients that wait, and the connections.
//
// A client is authorized or reset after accept(2), before a byte of it is read. Then it is dialled
// for (PortCore::Phase::Serving) or held (Holding). If the target refuses, the client is held for
// kRedialDelay, since a listener that has just closed may return at once. If hold() or serve() is
// called in this time, the client is held or dialled for like any other. Otherwise it is dialled
// for once more, and reset if the target refuses again. With settings().hold of 0 it is reset at
// the first refusal. The LoopGuard detects a target that leads back to this host port.
#pragma once

#include <memory>
#include <string>

#include "config/settings.h"
#include "event/event_loop.h"
#include "net/address.h"
#include "relay/accept_gate.h"
#include "relay/dialer.h"
#include "relay/forward_port.h"
#include "relay/loop_guard.h"
#include "relay/relay.h"
#include "relay/stream_listener.h"

namespace portfwd {

/// The header of the PROXY protocol, from which a server behind a forward reads the address of its
/// client. A pure function. Source: "The PROXY protocol, versions 1 & 2", sections 2.1 and 2.2.
/// @param version V1 or V2
/// @param client, host both ends of the accepted connection, of one family. The header has this
/// family, even if the server is dialled over the other one.
/// @return at most 107 bytes
[[nodiscard]] std::string proxy_header(ProxyProtocol version, const Endpoint& client,
                                       const Endpoint& host);

class StreamPort;

// A client that was authorized and is not connected to a target: it is held, dialled for, or will
// be dialled for in the next turn. Owned by its StreamPort; calls its on_connected(),
// on_dial_failed() and on_hold_over(). Nothing is read from it: what it sends waits in the kernel.
class WaitingClient final : public Retirable, private IoHandler, private DialHandler {
 public:
  /// @param port, core borrowed
  WaitingClient(StreamPort& port, PortCore& core, UniqueFd client, Family family);
  /// Its socket must have been released.
  ~WaitingClient() override;

  /// Holds the client, at most until `deadline`. Cancels a dial under way.
  void hold(TimePoint deadline);
  /// Dials for the client. @return the target's end if the target has accepted within the call;
  /// otherwise an invalid descriptor, and the port is called later
  [[nodiscard]] UniqueFd dial();
  /// Cancels a dial under way, or the hold.
  void stop();

  [[nodiscard]] Family family() const { return family_; }
  [[nodiscard]] bool dialling() const { return dial_ != nullptr; }
  [[nodiscard]] bool held() const { return hold_over_.armed(); }
  [[nodiscard]] TimePoint held_until() const { return hold_over_.when(); }
  /// Whether the client has reset the connection.
  [[nodiscard]] bool was_reset() const { return was_reset_; }
  [[nodiscard]] int socket() const { return client_.get(); }
  /// Returns the client's socket and no longer watches it. Must not be dialling.
  [[nodiscard]] UniqueFd release();

  std::uint32_t index = 0;  ///< the owner's; see SlotVector
  bool refused = false;     ///< the owner's: held for a second dial after a refusal
  bool redialled = false;   ///< the owner's: the second dial was made
  bool suspected = false;   ///< the owner's: held by its LoopGuard

 private:
  void on_io(IoSource& source, std::uint32_t events) override;
  void on_dialled(Result<UniqueFd> connected) override;

  StreamPort& port_;
  PortCore& core_;
  AcceptGate::Claim claim_;
  Family family_;
  UniqueFd client_;
  IoSource source_;
  Timer hold_over_;
  std::unique_ptr<Dial> dial_;
  bool was_reset_ = false;
};

/// Its destruction discards all clients and resets all connections, except after save().
class StreamPort final : public ForwardPort {
 public:
  static constexpr Duration kRedialDelay = std::chrono::milliseconds(100);

  /// @param listens Tcp or Unix: the kind of its own sockets
  StreamPort(const RelayServices& services, ForwardPortSettings settings,
             ForwardPortObserver& observer, Protocol listens = Protocol::Tcp);
  ~StreamPort() override;

  [[nodiscard]] std::expected<void, BindFailure> bind(std::span<const Address> addresses) override;
  /// As bind(), with sockets that are already bound, see StreamListener::adopt. Must be called
  /// instead of bind() if the port listens at a Unix socket.
  [[nodiscard]] std::expected<void, BindFailure> adopt(std::vector<BoundSocket> sockets) {
    return listener_->adopt(std::move(sockets));
  }
  /// Dials under way are cancelled, and their clients held or reset. Relays continue.
  [[nodiscard]] std::expected<void, BindFailure> hold() override;
  [[nodiscard]] std::expected<void, BindFailure> serve(
      Dialer& dialer, std::span<const ListenAddress> listeners) override;
  /// Relays may continue for `limit`; then they are reset.
  void drain(Duration limit) override;
  [[nodiscard]] PortRecord save() override;
  void restore(PortRecord record) override;

  void configure(ForwardPortSettings settings) override;
  [[nodiscard]] const std::vector<Address>& addresses() const override {
    return listener_->addresses();
  }
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }

 private:
  friend class WaitingClient;

  void on_client(Arrival arrival);
  // The three calls of a WaitingClient; from within them it may be retired, not destroyed.
  void on_connected(WaitingClient& client, UniqueFd target);
  void on_dial_failed(WaitingClient& client, const Error& error);
  /// The deadline of the hold has passed, or the client has reset the connection. A client that has
  /// only shut down its sending side still waits for an answer.
  void on_hold_over(WaitingClient& client);
  void on_connection_over(RelayedConnection& over);

  [[nodiscard]] std::unique_ptr<StreamListener> make_listener(Protocol listens);
  WaitingClient& add_client(UniqueFd client, Family family);
  void dial_again(UniqueFd socket, Family family, bool redialled);
  void hold_for_redial(WaitingClient& client, const Error& error);
  void dial_or_hold(WaitingClient& client);
  void dial(WaitingClient& client);
  void dial_in_next_turn(WaitingClient& client);
  void dial_waiting();
  void dial_suspected();
  void reset_loop();
  void discard(WaitingClient& client);
  void remove_client(WaitingClient& client);
  void remove_all_clients();
  void remove_connection(RelayedConnection& connection);
  [[nodiscard]] std::shared_ptr<Carrier> carrier() const;
  void update_connections();
  void finish_drain();

  const Protocol listens_;
  std::unique_ptr<StreamListener> listener_;
  LoopGuard guard_;
  bool guard_may_hold_ = false;  ///< clients may be held by the guard
  SlotVector<WaitingClient> waiting_;
  std::shared_ptr<Carrier> local_carrier_;
  RelayGroup relay_group_;
  SlotVector<RelayedConnection> connections_;
  Timer dial_waiting_;  ///< armed while serving and a client is neither held nor dialled for
  Timer drain_over_;
};

}  // namespace portfwd
