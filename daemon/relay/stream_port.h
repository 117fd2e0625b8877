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

#include "relay/forward_port.h"
#include "relay/host_listener.h"
#include "relay/loop_guard.h"
#include "relay/refusal_log.h"
#include "relay/relay.h"
#include "relay/roster.h"
#include "relay/waiting_client.h"

namespace portfwd {

class StreamPort final : public ForwardPort,
                         private ClientSink,
                         private RelayObserver,
                         private WaitingClientObserver {
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
  void on_relay_over(Relay& relay) override;

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
  Roster<WaitingClient> waiting_;
  Roster<Relay> relays_;
  Timer dial_waiting_;  ///< armed when clients of waiting_ are neither held nor dialled for
  Timer drain_over_;
};

}  // namespace portfwd
