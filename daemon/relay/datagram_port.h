// One UDP forward, from its host port to its target: its sockets on the host, a Flow for every
// client, and what becomes of clients when nobody listens. See ForwardPort for who owns it and what
// it is told.
//
//   serving ── the target refuses its last flow ──► refusing ── kRefusal ──► serving
//      │ hold()
//   finishing: flows that are there go on, in case the server returns; new ones wait for it
//      │ the last one is refused, or kFinish is over: they pin the container's namespace
//   waiting ── a datagram comes, and hold is over ──► refusing ── hold ──► waiting
//
// A client is let in or not before its first datagram is passed on, and looked at again every
// kExamineAgain, before more goes either way. Datagrams are lost where a network would lose them:
// when a queue is full. Nothing tells the end of a client, so a flow ends when it has been idle for
// long, when nothing listens any more, or for another one when there are too many: see FlowTable.
#pragma once

#include <array>
#include <deque>
#include <vector>

#include "relay/accept_gate.h"
#include "relay/datagram_socket.h"
#include "relay/flow.h"
#include "relay/forward_port.h"
#include "relay/refusal_log.h"
#include "relay/relay_context.h"

namespace portfwd {

class DatagramPort final : public ForwardPort,
                           private IoHandler,
                           private FlowObserver,
                           private AcceptGate::Member {
 public:
  static constexpr std::size_t kMostFlows = 4096;       ///< with max_connections = 0
  static constexpr std::size_t kMostUnconnected = 256;  ///< who dial, or wait for a listener
  static constexpr Duration kExamineAgain = std::chrono::milliseconds(250);
  static constexpr Duration kRefusal = std::chrono::seconds(1);
  static constexpr Duration kFinish = std::chrono::seconds(10);

  DatagramPort(const RelayServices& services, ForwardPortSettings settings,
               ForwardPortObserver& observer);
  ~DatagramPort() override;

  [[nodiscard]] std::expected<void, BindFailure> bind(std::span<const Address> addresses) override;
  /// Live flows go on for kFinish, as long as the target takes what they carry.
  [[nodiscard]] std::expected<void, BindFailure> hold() override;
  /// Live flows go on where they lead to. Never fails.
  [[nodiscard]] std::expected<void, BindFailure> serve(
      Dialer& dialer, std::span<const ListenAddress> listeners) override;
  /// At once: answers would have to come from the host port that is given up.
  void drain(Duration limit) override;

  void configure(ForwardPortSettings settings) override;
  [[nodiscard]] const std::string& id() const override { return settings_.id; }
  [[nodiscard]] const Counters& counters() const override { return counters_; }
  [[nodiscard]] const std::vector<Address>& addresses() const override { return addresses_; }

 private:
  enum class Mode : std::uint8_t { Serving, Finishing, Waiting, Refusing, Draining };

  void on_io(IoSource& source, std::uint32_t events) override;
  void on_answers(Flow& flow) override;
  void on_flow_connected(Flow& flow) override;
  void on_flow_failed(Flow& flow, const Error& error) override;
  void on_gate() override {}  // who is not admitted takes the place of another
  [[nodiscard]] std::size_t connections() const override { return flows_.size(); }

  void enter(Mode mode);
  [[nodiscard]] Mode mode_without_listener() const;
  [[nodiscard]] bool hears() const { return mode_ == Mode::Serving || mode_ == Mode::Finishing; }
  void on_patience_over();
  void relay_batch(std::size_t via, const ReceivedDatagrams& received);
  [[nodiscard]] int relay_to(Flow& flow, std::span<const Datagrams> messages);
  [[nodiscard]] Flow* flow_of(std::size_t via, const Arrived& end);
  [[nodiscard]] Flow* admit(const FlowKey& client, std::size_t via);
  void dial(Flow& flow);
  void dial_for_unconnected();
  [[nodiscard]] std::vector<Flow*> unconnected() const;
  [[nodiscard]] bool holds() const { return settings_.hold > Duration::zero(); }
  [[nodiscard]] ClientVerdict examine(const FlowKey& client, std::size_t via);
  [[nodiscard]] Endpoint talked_to(const FlowKey& client, std::size_t via) const;
  [[nodiscard]] bool still_let_in(Flow& flow);
  [[nodiscard]] Error pass_answers(Flow& flow);
  void refused_by_target(Flow& flow, const Error& error);
  void touch(Flow& flow);
  void drop(Flow& flow);
  void drop_all();
  void drop_idle();
  void give_up_ports();
  void follow_expiry();
  [[nodiscard]] TimePoint now() const { return services_.context.loop().now(); }

  RelayServices services_;
  ForwardPortSettings settings_;
  ForwardPortObserver& observer_;
  Counters counters_;
  Mode mode_ = Mode::Refusing;
  bool undialable_ = false;                         ///< so was the target when it was last dialled
  bool holding_ = false;                            ///< from hold() until serve() or drain()
  Dialer* dialer_ = nullptr;                        ///< from serve() until hold() or drain()
  std::array<std::vector<Address>, 2> candidates_;  ///< by the client's family
  RefusalLog refusals_;
  std::vector<Address> addresses_;
  std::deque<DatagramSocket> sockets_;  ///< pinned, as sources must be
  FlowTable<Flow> flows_;
  std::size_t unconnected_ = 0;
  Timer patience_;  ///< with flows that finish, with clients that wait, or with refusing them
  Timer idle_;      ///< the next flow may have been idle for too long
  Timer dial_unconnected_;  ///< armed by serve() when flows are to be dialled for
  Timer drained_;
};

}  // namespace portfwd
