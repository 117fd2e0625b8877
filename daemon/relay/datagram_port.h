// One UDP forward, from its host port to its target: its sockets on the host and a Flow for each
// client.
//
//   Serving ── the target refuses the last flow ──► Refusing ── kRefusal ──► Serving
//      │ hold()
//   Finishing: flows go on, in case the server returns; new ones wait for it
//      │ the last flow is refused, or after kFinish: flows pin the container's namespace
//   Waiting ── a datagram arrives, and hold has passed ──► Refusing ── hold ──► Waiting
//
// A client is authorized before its first datagram is relayed, and again every kExamineAgain before
// more is relayed either way. Datagrams are lost where a network would lose them: when a queue is
// full. The end of a client is not reported, so a flow ends when it has been idle for long, when
// nothing listens any more, or in favour of another flow when there are too many: see FlowTable.
#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "event/event_loop.h"
#include "kernel/datagrams.h"
#include "net/address.h"
#include "relay/accept_gate.h"
#include "relay/dialer.h"
#include "relay/forward_port.h"
#include "relay/host_listener.h"
#include "relay/relay_context.h"

namespace portfwd {

// One bound UDP socket of a datagram forward, which receives from every sender, or refuses. Owned
// by a DatagramListener. It knows neither flows nor users.
//
// An unconnected UDP socket cannot refuse a sender: the kernel sends "port unreachable" (ICMP) only
// where no socket matches. So to refuse, the socket is connected to itself: it keeps its port, no
// other socket can bind it, no sender matches it, and the kernel answers every datagram with the
// error. A sender gets the error for its next datagram at the earliest. A wildcard socket cannot do
// so, since connecting gives it one address and leaves the others to any program: it discards.
// Fact: UdpPortFacts.ASocketConnectedToItselfKeepsItsPortAndRefuses
class DatagramSocket {
 public:
  /// Refuses at first. @param handler borrowed
  DatagramSocket(EventLoop& loop, BoundSocket bound, IoHandler& handler);
  /// Goes on with a socket that save() returned; it is not watched at first.
  DatagramSocket(EventLoop& loop, BoundSocket bound, bool refusing, IoHandler& handler);
  DatagramSocket(const DatagramSocket&) = delete;
  DatagramSocket& operator=(const DatagramSocket&) = delete;

  /// @param watched whether the handler is called for datagrams; else they wait in the kernel
  void receive(bool watched);
  /// Discards the datagrams that wait; senders are refused from now on.
  void refuse();
  /// Gives up the socket as it is; datagrams wait in it.
  [[nodiscard]] UniqueFd save();
  [[nodiscard]] bool refusing() const { return refusing_; }

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const Endpoint& endpoint() const { return endpoint_; }
  [[nodiscard]] bool is(const IoSource& source) const { return &source == &source_; }

 private:
  void connect_to(const SockAddr& address) const;
  void discard() const;

  Endpoint endpoint_;
  UniqueFd fd_;
  IoSource source_;
  bool refusing_ = false;
};

// The host port of a datagram forward: one port on a few addresses, bound together or not at all.
// A member of a DatagramPort. It keeps ClientIdentity informed of which ports belong to forwards.
class DatagramListener {
 public:
  /// Closed at first. All references are borrowed.
  DatagramListener(EventLoop& loop, ClientIdentity& identity, IoHandler& handler)
      : loop_(loop), identity_(identity), handler_(handler) {}
  DatagramListener(const DatagramListener&) = delete;
  DatagramListener& operator=(const DatagramListener&) = delete;
  ~DatagramListener() { close(); }

  /// See bind_together(). The sockets refuse at first. Must be closed.
  [[nodiscard]] std::expected<void, BindFailure> bind(std::span<const Address> addresses);
  void close();
  /// See DatagramSocket; of all sockets, as refusing(). It is closed by save(), and must be closed
  /// before restore().
  [[nodiscard]] std::vector<BoundSocket> save();
  void restore(std::vector<BoundSocket> sockets, bool refusing);
  [[nodiscard]] bool refusing() const { return !sockets_.empty() && sockets_.front().refusing(); }
  void receive(bool watched);
  void refuse();

  [[nodiscard]] const std::vector<Address>& addresses() const { return addresses_; }
  [[nodiscard]] const DatagramSocket& operator[](std::size_t index) const {
    assert(index < sockets_.size());
    return sockets_[index];
  }
  /// What a client sends to. @param at its FlowKey::at
  [[nodiscard]] Endpoint local_end(std::size_t index, const std::optional<IpAddress>& at) const;
  /// @param source of one of the sockets
  [[nodiscard]] std::size_t index_of(const IoSource& source) const;

 private:
  EventLoop& loop_;
  ClientIdentity& identity_;
  IoHandler& handler_;
  std::vector<Address> addresses_;
  std::deque<DatagramSocket> sockets_;  ///< pinned, as sources must be
};

/// What identifies a flow.
struct FlowKey {
  Endpoint client;
  std::optional<IpAddress> at;  ///< the local address that it talks to, where there are several
  friend bool operator==(const FlowKey&, const FlowKey&) = default;
};

struct FlowKeyHash {
  std::size_t operator()(const FlowKey& key) const {
    const IpAddress& address = key.client.address;
    const auto* const bytes = reinterpret_cast<const char*>(address.data());
    const std::size_t hash = std::hash<std::string_view>{}({bytes, address.size()});
    return hash ^ (std::size_t{key.client.port} * 0x9e3779b97f4a7c15U);
  }
};

/// How much would be lost with a flow, the least first.
enum class FlowRank : std::uint8_t {
  Answered,    ///< a question and its answer, one datagram each, as with DNS
  Fleeting,    ///< up to two datagrams, and no sign that more will not follow
  Young,       ///< up to kYoung datagrams
  Established  ///< more
};

/// @param asked, answered datagrams so far, each way
[[nodiscard]] constexpr FlowRank flow_rank(std::uint64_t asked, std::uint64_t answered) {
  constexpr std::uint64_t kYoung = 16;
  if (asked == 1 && answered == 1) return FlowRank::Answered;
  if (asked + answered <= 2) return FlowRank::Fleeting;
  return asked + answered <= kYoung ? FlowRank::Young : FlowRank::Established;
}

// The flows of one datagram forward: finds the flow of a datagram, the flow that has been idle for
// too long, and the flow to evict. They are found by the client's address and kept in LRU order,
// one order for each rank, so each operation takes the same time with one flow as with thousands.
// Owned by a DatagramPort. It knows no sockets: a Flow is a class that has `key`, `used`, `rank()`
// and `place`.
//
// The program that a client belongs to is not known, and on loopback all clients have one address.
// So a flow is protected from a program that opens thousands of ports by what it has carried.
template <class Flow>
class FlowTable {
  using Order = std::list<std::unique_ptr<Flow>>;

 public:
  /// Where a flow is in the table, which sets it.
  struct Place {
    FlowRank rank = FlowRank::Fleeting;
    typename Order::iterator at;
    std::size_t* of_client = nullptr;  ///< how many flows its client's address has
  };

  static constexpr Duration kIdle = std::chrono::seconds(90);
  static constexpr Duration kBriefIdle = std::chrono::seconds(10);  ///< with FlowRank::Answered

  [[nodiscard]] Flow* find(const FlowKey& key) const {
    const auto found = by_key_.find(key);
    return found == by_key_.end() ? nullptr : found->second;
  }
  Flow& add(std::unique_ptr<Flow> flow, TimePoint now) {
    Flow& added = *flow;
    assert(find(added.key) == nullptr);
    by_key_.emplace(added.key, &added);
    added.used = now;
    Order& order = orders_[index(FlowRank::Fleeting)];
    added.place = {FlowRank::Fleeting, order.insert(order.end(), std::move(flow)),
                   &clients_[added.key.client.address]};
    ++*added.place.of_client;
    return added;
  }
  [[nodiscard]] std::unique_ptr<Flow> remove(Flow& flow) {
    assert(find(flow.key) == &flow && flow.place.at->get() == &flow);
    assert(*flow.place.of_client > 0);
    by_key_.erase(flow.key);
    if (--*flow.place.of_client == 0) clients_.erase(flow.key.client.address);
    std::unique_ptr<Flow> out = std::move(*flow.place.at);
    order_of(flow).erase(flow.place.at);
    return out;
  }
  /// Makes the flow the one that was used last, with its rank of now.
  void touch(Flow& flow, TimePoint now) {
    assert(find(flow.key) == &flow);
    flow.used = now;
    Order& from = order_of(flow);
    flow.place.rank = flow.rank();
    Order& to = order_of(flow);
    to.splice(to.end(), from, flow.place.at);
  }

  /// When the next flow will have been idle for too long; nothing while there is none.
  [[nodiscard]] std::optional<TimePoint> next_expiry() const {
    std::optional<TimePoint> next;
    for (const Order& order : orders_) {
      if (!order.empty()) next = std::min(next.value_or(TimePoint::max()), end_of(*order.front()));
    }
    return next;
  }
  /// A flow that has been idle for too long, or null.
  [[nodiscard]] Flow* expired(TimePoint now) const {
    for (const Order& order : orders_) {
      if (!order.empty() && end_of(*order.front()) <= now) return order.front().get();
    }
    return nullptr;
  }

  /// The flow to give up for another: among client addresses that have at least an equal share of
  /// the table, the flow of the lowest rank that was used longest ago. Must not be empty.
  [[nodiscard]] Flow& to_evict() const {
    assert(!empty());
    const std::size_t share = size() / clients_.size();
    for (const Order& order : orders_) {
      for (const auto& flow : order) {
        if (*flow->place.of_client >= share) return *flow;
      }
    }
    return any();  // not reached: not all can have less than their share
  }

  [[nodiscard]] std::size_t size() const { return by_key_.size(); }
  [[nodiscard]] bool empty() const { return by_key_.empty(); }
  [[nodiscard]] Flow& any() const {
    assert(!empty());
    return *by_key_.begin()->second;
  }
  /// Takes time linear in the number of flows.
  template <class Predicate>
  [[nodiscard]] std::vector<Flow*> all_that(const Predicate& holds) const {
    std::vector<Flow*> out;
    for (const auto& [key, flow] : by_key_) {
      if (holds(*flow)) out.push_back(flow);
    }
    return out;
  }

 private:
  static std::size_t index(FlowRank rank) { return static_cast<std::size_t>(rank); }
  [[nodiscard]] Order& order_of(const Flow& flow) { return orders_[index(flow.place.rank)]; }
  static TimePoint end_of(const Flow& flow) {
    return flow.used + (flow.place.rank == FlowRank::Answered ? kBriefIdle : kIdle);
  }

  std::unordered_map<FlowKey, Flow*, FlowKeyHash> by_key_;
  std::map<IpAddress, std::size_t> clients_;  ///< flows of each
  std::array<Order, 4> orders_;               ///< by rank, the one used longest ago first
};

class DatagramPort;
struct FlowRecord;

// One client of a datagram forward and the socket that represents it inside: made in the
// container's namespace and connected to the listener, so that each client has a port of its own
// there and the kernel reports when nothing listens any more. Owned by its DatagramPort, whose
// on_answers(), on_flow_connected() and on_flow_failed() it calls. It knows neither users nor the
// host's sockets.
//
// Until it is connected, a few datagrams of the client are kept.
class Flow final : public Retirable, private IoHandler, private DialHandler {
 public:
  static constexpr std::size_t kMostKept = 64 * 1024;  ///< bytes
  static constexpr std::size_t kLeastCharge = 1024;    ///< bytes that a datagram counts, at least

  /// @param port, core borrowed @param socket index of the host's socket that the client talks to
  Flow(DatagramPort& port, PortCore& core, const FlowKey& client, std::size_t socket)
      : key(client), via(socket), port_(port), core_(core) {}
  Flow(const Flow&) = delete;
  Flow& operator=(const Flow&) = delete;
  ~Flow() override = default;

  /// Goes on with a flow that save() returned. @return false: its socket cannot be watched
  [[nodiscard]] bool restore(FlowRecord record);
  /// Gives up the flow's socket and datagrams; the flow has ended.
  [[nodiscard]] FlowRecord save();

  /// The port is called within the call, where the socket is connected at once.
  void dial();
  /// Waits for another dial().
  void stop_dialling() { dial_.reset(); }
  [[nodiscard]] bool dialling() const { return dial_ != nullptr; }
  /// The port is not called any more. Must be called once, before the flow is retired.
  void end();
  [[nodiscard]] bool ended() const { return ended_; }

  /// Sends to the target, or keeps, until it is connected. @return what was sent now
  DatagramsSent deliver(std::span<const Datagrams> messages);
  /// Sends the datagrams that were kept. Must be connected.
  DatagramsSent deliver_kept();
  /// Counts datagrams from the target.
  void count_answers(std::span<const Datagrams> messages);
  [[nodiscard]] bool connected() const { return socket_.valid(); }
  /// Connected to the target; -1 while it is not connected.
  [[nodiscard]] int socket() const { return socket_.get(); }

  [[nodiscard]] FlowRank rank() const { return flow_rank(asked_, answered_); }

  const FlowKey key;
  const std::size_t via;  ///< index of the host's socket
  TimePoint used{};       ///< the table's, as `place`
  FlowTable<Flow>::Place place;
  TimePoint examined{};            ///< the owner's: when the client was last authorized
  std::uint32_t client_inode = 0;  ///< the owner's: of the client's socket when it was authorized

 private:
  void on_io(IoSource& source, std::uint32_t events) override;
  void on_dialled(Result<UniqueFd> connected) override;
  void keep(const Datagrams& message);

  DatagramPort& port_;
  PortCore& core_;
  std::uint64_t asked_ = 0;  ///< datagrams towards the target
  std::uint64_t answered_ = 0;
  std::unique_ptr<Dial> dial_;
  std::vector<std::vector<std::byte>> kept_;
  std::size_t kept_bytes_ = 0;
  UniqueFd socket_;
  std::optional<IoSource> source_;
  bool ended_ = false;
};

class DatagramPort final : public ForwardPort, private IoHandler {
 public:
  static constexpr std::size_t kMostFlows = 4096;       ///< with max_connections = 0
  static constexpr std::size_t kMostUnconnected = 256;  ///< flows that wait or are dialled for
  static constexpr Duration kExamineAgain = std::chrono::milliseconds(250);
  static constexpr Duration kRefusal = std::chrono::seconds(1);
  static constexpr Duration kFinish = std::chrono::seconds(10);

  DatagramPort(const RelayServices& services, ForwardPortSettings settings,
               ForwardPortObserver& observer);

  [[nodiscard]] std::expected<void, BindFailure> bind(std::span<const Address> addresses) override {
    return listener_.bind(addresses);
  }
  /// Flows go on for kFinish, as long as the target takes what they carry. Never fails.
  [[nodiscard]] std::expected<void, BindFailure> hold() override;
  /// Connected flows go on to their old target. Never fails.
  [[nodiscard]] std::expected<void, BindFailure> serve(
      Dialer& dialer, std::span<const ListenAddress> listeners) override;
  /// Ends all flows at once: their answers would have to come from the host port, which is closed.
  void drain(Duration limit) override;
  [[nodiscard]] PortRecord save() override;
  void restore(PortRecord record) override;

  /// Another `hold` applies to clients to come.
  void configure(ForwardPortSettings settings) override;
  [[nodiscard]] const std::vector<Address>& addresses() const override {
    return listener_.addresses();
  }

 private:
  friend class Flow;
  enum class Mode : std::uint8_t { Serving, Finishing, Waiting, Refusing, Closed };

  void on_io(IoSource& source, std::uint32_t events) override;
  // In the three calls of a Flow, it may be retired, not destroyed.
  /// The target has sent something, or has refused what was sent to it.
  void on_answers(Flow& flow);
  void on_flow_connected(Flow& flow);
  void on_flow_failed(Flow& flow, const Error& error);

  void enter(Mode mode);
  [[nodiscard]] Mode mode_without_listener() const;
  void on_mode_timeout();
  void relay_batch(std::size_t via, const ReceivedDatagrams& received);
  [[nodiscard]] Flow* flow_of(std::size_t via, const Arrived& end);
  [[nodiscard]] Flow* admit(const FlowKey& client, std::size_t via);
  void dial_unconnected();
  [[nodiscard]] std::vector<Flow*> unconnected() const;
  [[nodiscard]] bool authorize_again(Flow& flow);
  [[nodiscard]] Error relay_answers(Flow& flow);
  void end_refused(Flow& flow, const Error& error);
  void touch(Flow& flow);
  void drop(Flow& flow);
  void drop_all();
  void drop_idle();
  void arm_idle_timer();

  AcceptGate::Member gate_member_;
  Mode mode_ = Mode::Refusing;
  DatagramListener listener_;
  FlowTable<Flow> flows_;
  std::size_t unconnected_ = 0;  ///< flows that are not connected
  Timer mode_timeout_;      ///< while flows finish, clients wait, or clients are refused for a time
  Timer idle_;              ///< not later than the expiry of the next flow
  Timer dial_unconnected_;  ///< armed by serve()
  Timer drained_;
};

}  // namespace portfwd
