// One forward, from its host port to its target: ties a HostListener, a Dialer, the clients that
// wait and the relays together, and counts. Owned by the forward table, which decides what it is to
// do and why; this one does it. It knows no container and reads no configuration.
//
// A client is let in or reset at accept, before one byte of it is read. Then it is dialled for
// (serving) or held (holding). A target that refuses means a RST for the client, after a second
// look: perhaps its listener has just gone and is about to come back.
#pragma once

#include <array>
#include <string>

#include "config/rule.h"
#include "relay/client_identity.h"
#include "relay/counters.h"
#include "relay/dial_order.h"
#include "relay/host_listener.h"
#include "relay/relay.h"
#include "relay/roster.h"
#include "relay/waiting_client.h"

namespace portfwd {

/// What all forwards share; borrowed, outlives them.
struct RelayServices {
  RelayContext& context;
  AcceptGate& gate;
  ClientIdentity& identity;
};

struct ForwardPortSettings {
  Duration hold = std::chrono::seconds(5);  ///< 0: refuse at once instead of holding
  Duration connect_timeout = std::chrono::seconds(10);
  unsigned max_connections = 0;  ///< 0: as many as descriptors allow
  Admission admission = {};
  ProxyProtocol proxy_protocol = ProxyProtocol::Off;  ///< spoken towards the target
  std::string id;                                     ///< of the forward, for the journal: "f1"
  std::string name;                                   ///< for log lines: "web:8080"
};

class ForwardPort;

class ForwardPortObserver {
 public:
  /// A dial has failed: perhaps the listener is gone. The port may be told to hold() or to serve()
  /// from within; a client that was refused and of whom nothing is heard for kSecondLook is reset.
  virtual void on_target_refused(ForwardPort& port, const Error& error) = 0;
  /// drain() is over. The last call; the port may be retired, not destroyed, from within.
  virtual void on_drained(ForwardPort& port) = 0;

 protected:
  ~ForwardPortObserver() = default;
};

class ForwardPort final : public Retirable,
                          private ClientSink,
                          private RelayObserver,
                          private WaitingClientObserver {
 public:
  static constexpr Duration kSecondLook = std::chrono::milliseconds(100);

  ForwardPort(const RelayServices& services, ForwardPortSettings settings,
              ForwardPortObserver& observer);
  /// Resets whoever is still connected.
  ~ForwardPort() override;

  /// Takes the port on all of `endpoints` or on none, see HostListener::bind. Clients are refused
  /// until hold() or serve().
  [[nodiscard]] std::expected<void, BindFailure> bind(std::span<const Endpoint> endpoints);
  /// The same on sockets that somebody else has bound, see HostListener::adopt.
  void adopt(std::vector<BoundSocket> sockets) { listener_.adopt(std::move(sockets)); }
  /// Nothing listens inside: clients wait, or are refused with settings.hold 0. Clients for which a
  /// dial is under way wait again. Live relays go on.
  [[nodiscard]] std::expected<void, BindFailure> hold();
  /// Dials for every client that comes and for all that wait.
  /// @param dialer borrowed until the next hold(), serve() or drain() @param listeners at least one
  [[nodiscard]] std::expected<void, BindFailure> serve(Dialer& dialer,
                                                       std::span<const ListenAddress> listeners);
  /// Gives up the host port at once and resets whoever waits. Live relays may finish for `limit`,
  /// then they are reset; on_drained follows, never from within this call.
  void drain(Duration limit);

  /// For clients to come; those that wait keep their deadlines.
  void configure(ForwardPortSettings settings);
  [[nodiscard]] const Counters& counters() const { return counters_; }
  [[nodiscard]] const std::vector<Endpoint>& endpoints() const { return listener_.endpoints(); }
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
  void log_refusal(const Arrival& arrival, const ClientVerdict& verdict);
  void engage(WaitingClient& client);
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
  Dialer* dialer_ = nullptr;                         ///< with Serving
  std::array<std::vector<Endpoint>, 2> candidates_;  ///< by the client's family
  TimePoint may_log_refusal_{};
  std::uint64_t unlogged_refusals_ = 0;
  HostListener listener_;
  Roster<WaitingClient> waiting_;
  Roster<Relay> relays_;
  Timer drain_over_;
};

}  // namespace portfwd
