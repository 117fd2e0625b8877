// One UDP forward, from its host port to its target: its sockets on the host and a Flow for each
// client.
//
//   Serving ── the target refuses the last flow ──► Refusing ── kRefusal ──► Serving
//      │ hold()
//   Finishing: flows continue, in case the server returns; new ones wait for it
//      │ the last flow has ended, or after kFinishTimeout: flows pin the container's namespace
//   Waiting ── `hold` after the first datagram ──► Refusing ── hold ──► Waiting
//
// With settings().hold of 0 it refuses instead of waiting. serve() leads to Serving from each mode,
// and drain() and save() lead to Closed.
//
// A client is authorized before its first datagram is relayed, and again after kExamineInterval
// before more is relayed in either direction. Datagrams are dropped when a queue is full, as a
// network would do. The kernel does not report the end of a client, so a flow ends when it has been
// idle for too long, when the target refuses it, when nothing listens, or when it is evicted: see
// FlowTable.
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
#include "relay/relay_context.h"
#include "relay/stream_listener.h"

namespace portfwd {

// One bound UDP socket of a datagram forward, which receives from every sender, or refuses. Owned
// by a DatagramListener. It knows neither flows nor users.
//
// An unconnected UDP socket cannot refuse a sender: the kernel sends "port unreachable" (ICMP) only
// if no socket matches. So to refuse, the socket is connected to itself: it keeps its port, no
// other socket can bind it, no sender matches it, and the kernel answers every datagram with the
// error. A sender gets the error for its next datagram at the earliest. A wildcard socket cannot
// refuse, since connect(2) gives it one address and leaves the others to any program. It is not
// read, and discards what it has received when it receives again. Fact:
// UdpPortFacts.ASocketConnectedToItselfKeepsItsPortAndRefuses
class DatagramSocket {
 public:
  /// Refuses at first. @param handler borrowed
  DatagramSocket(EventLoop& loop, BoundSocket bound, IoHandler& handler);
  /// Continues with a socket that save() returned; it is not watched at first.
  DatagramSocket(EventLoop& loop, BoundSocket bound, bool refusing, IoHandler& handler);
  DatagramSocket(const DatagramSocket&) = delete;
  DatagramSocket& operator=(const DatagramSocket&) = delete;

  /// Receives from every sender. @param watched whether the handler is called for datagrams;
  /// otherwise they wait in the kernel
  void receive(bool watched);
  /// Discards the datagrams that wait, and refuses senders from now on.
  void refuse();
  /// Returns the socket unchanged, with the datagrams in its queue, and no longer watches it.
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
// A member of a DatagramPort. Its sockets all receive or all refuse. It registers its addresses
// with ClientIdentity, as ports of forwards.
class DatagramListener {
 public:
  /// Closed at first. All references are borrowed.
  DatagramListener(EventLoop& loop, ClientIdentity& identity, IoHandler& handler)
      : loop_(loop), identity_(identity), handler_(handler) {}
  DatagramListener(const DatagramListener&) = delete;
  DatagramListener& operator=(const DatagramListener&) = delete;
  ~DatagramListener() { close(); }

  /// See bind_together(). The sockets refuse at first. The listener must be closed.
  [[nodiscard]] std::expected<void, BindFailure> bind(std::span<const Address> addresses);
  void close();
  /// Returns the sockets unchanged, see DatagramSocket::save(), and is closed.
  [[nodiscard]] std::vector<BoundSocket> save();
  /// Continues with sockets that save() returned. The listener must be closed.
  /// @param refusing refusing() before save()
  void restore(std::vector<BoundSocket> sockets, bool refusing);
  [[nodiscard]] bool refusing() const { return !sockets_.empty() && sockets_.front().refusing(); }
  void receive(bool watched);
  void refuse();

  [[nodiscard]] const std::vector<Address>& addresses() const { return addresses_; }
  [[nodiscard]] const DatagramSocket& operator[](std::size_t index) const {
    assert(index < sockets_.size());
    return sockets_[index];
  }
  /// The address and port that a client sends to. @param at FlowKey::at of its flow
  [[nodiscard]] Endpoint local_end(std::size_t index, const std::optional<IpAddress>& at) const;
  /// The index of a socket. @param source the source of that socket
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
  std::optional<IpAddress> at;  ///< the local address that it sends to, if there are several
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
  Answered,    ///< one question and one answer, as with DNS: most likely complete
  Fleeting,    ///< other flows of up to two datagrams
  Young,       ///< up to kYoung datagrams
  Established  ///< more
};

/// @param asked, answered number of datagrams towards the target and back
[[nodiscard]] constexpr FlowRank flow_rank(std::uint64_t asked, std::uint64_t answered) {
  constexpr std::uint64_t kYoung = 16;
  if (asked == 1 && answered == 1) return FlowRank::Answered;
  if (asked + answered <= 2) return FlowRank::Fleeting;
  return asked + answered <= kYoung ? FlowRank::Young : FlowRank::Established;
}

// The flows of one datagram forward: finds the flow of a datagram, a flow that has been idle for
// too long, and the flow to evict. Flows are found by their key and kept in LRU order, one order
// for each rank. So the time for each datagram does not depend on the number of flows; that of
// to_evict() can, if clients have several addresses. Owned by a DatagramPort. It knows no sockets:
// a Flow is a class that has `key`, `used`, `rank()` and `place`.
//
// The program that a client belongs to is not known, and on loopback all clients have one address.
// Therefore the number of datagrams that a flow has carried protects it from a program that opens
// thousands of ports.
template <class Flow>
class FlowTable {
  using Order = std::list<std::unique_ptr<Flow>>;

 public:
  /// The position of a flow in the table. Set by the table.
  struct Place {
    FlowRank rank = FlowRank::Fleeting;
    typename Order::iterator at;
    std::size_t* flows_of_client = nullptr;  ///< number of flows of its client's address
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
    ++*added.place.flows_of_client;
    return added;
  }
  [[nodiscard]] std::unique_ptr<Flow> remove(Flow& flow) {
    assert(find(flow.key) == &flow && flow.place.at->get() == &flow);
    assert(*flow.place.flows_of_client > 0);
    by_key_.erase(flow.key);
    if (--*flow.place.flows_of_client == 0) clients_.erase(flow.key.client.address);
    std::unique_ptr<Flow> out = std::move(*flow.place.at);
    order_of(flow).erase(flow.place.at);
    return out;
  }
  /// Makes the flow the most recently used one, with its current rank.
  void touch(Flow& flow, TimePoint now) {
    assert(find(flow.key) == &flow);
    flow.used = now;
    Order& from = order_of(flow);
    flow.place.rank = flow.rank();
    Order& to = order_of(flow);
    to.splice(to.end(), from, flow.place.at);
  }

  /// When the next flow expires; nothing if there is no flow.
  [[nodiscard]] std::optional<TimePoint> next_expiry() const {
    std::optional<TimePoint> next;
    for (const Order& order : orders_) {
      if (!order.empty())
        next = std::min(next.value_or(TimePoint::max()), expiry_of(*order.front()));
    }
    return next;
  }
  /// A flow that has expired, or null.
  [[nodiscard]] Flow* expired(TimePoint now) const {
    for (const Order& order : orders_) {
      if (!order.empty() && expiry_of(*order.front()) <= now) return order.front().get();
    }
    return nullptr;
  }

  /// The flow to evict for a new one: among client addresses that have at least an equal share of
  /// the table, the least recently used flow of the lowest rank. The table must not be empty.
  [[nodiscard]] Flow& to_evict() const {
    assert(!empty());
    const std::size_t share = size() / clients_.size();
    for (const Order& order : orders_) {
      for (const auto& flow : order) {
        if (*flow->place.flows_of_client >= share) return *flow;
      }
    }
    return any();  // not reached: not all addresses have less than the average
  }

  [[nodiscard]] std::size_t size() const { return by_key_.size(); }
  [[nodiscard]] bool empty() const { return by_key_.empty(); }
  /// Some flow. The table must not be empty.
  [[nodiscard]] Flow& any() const {
    assert(!empty());
    return *by_key_.begin()->second;
  }
  /// The flows for which `holds` returns true. Takes time linear in the number of flows.
  template <class Predicate>
  [[nodiscard]] std::vector<Flow*> flows_where(const Predicate& holds) const {
    std::vector<Flow*> out;
    for (const auto& [key, flow] : by_key_) {
      if (holds(*flow)) out.push_back(flow);
    }
    return out;
  }

 private:
  static std::size_t index(FlowRank rank) { return static_cast<std::size_t>(rank); }
  [[nodiscard]] Order& order_of(const Flow& flow) { return orders_[index(flow.place.rank)]; }
  static TimePoint expiry_of(const Flow& flow) {
    return flow.used + (flow.place.rank == FlowRank::Answered ? kBriefIdle : kIdle);
  }

  std::unordered_map<FlowKey, Flow*, FlowKeyHash> by_key_;
  std::map<IpAddress, std::size_t> clients_;  ///< number of flows of each
  std::array<Order, 4> orders_;               ///< by rank, the least recently used first
};

class DatagramPort;
struct FlowRecord;

// One client of a datagram forward and the socket that represents it inside. The socket is created
// in the container's namespace and connected to the listener, so that each client has a port of its
// own there and the kernel reports when nothing listens. Owned by its DatagramPort; calls its
// on_answers(), on_flow_connected() and on_flow_failed(). It knows neither users nor the host's
// sockets.
//
// Until it is connected, datagrams of the client are kept, up to kMostKept.
class Flow final : public Retirable, private IoHandler, private DialHandler {
 public:
  static constexpr std::size_t kMostKept = 64 * 1024;  ///< bytes
  static constexpr std::size_t kLeastCharge = 1024;    ///< bytes; shorter datagrams count as much

  /// @param port, core borrowed @param socket index of the host's socket that the client sends to
  Flow(DatagramPort& port, PortCore& core, const FlowKey& client, std::size_t socket)
      : key(client), socket_index(socket), port_(port), core_(core) {}
  Flow(const Flow&) = delete;
  Flow& operator=(const Flow&) = delete;
  ~Flow() override = default;

  /// Continues with a flow that save() returned. @return false if its socket cannot be watched
  [[nodiscard]] bool restore(FlowRecord record);
  /// Moves the flow's socket and datagrams into a record, and ends the flow.
  [[nodiscard]] FlowRecord save();

  /// Dials the target. The port is called from within, if the socket is connected at once.
  void dial();
  /// Cancels a dial under way. dial() may be called again.
  void stop_dialling() { dial_.reset(); }
  [[nodiscard]] bool dialling() const { return dial_ != nullptr; }
  /// Ends the flow: the port is not called after this. Must be called once, before the flow is
  /// retired.
  void end();
  [[nodiscard]] bool ended() const { return ended_; }

  /// Sends datagrams to the target, or keeps them until it is connected.
  /// @return what was sent within the call
  DatagramsSent deliver(std::span<const Datagrams> messages);
  /// Sends the datagrams that were kept. Must be connected.
  DatagramsSent send_kept_datagrams();
  /// Counts datagrams from the target.
  void count_answers(std::span<const Datagrams> messages);
  [[nodiscard]] bool connected() const { return socket_.valid(); }
  /// The socket towards the target; -1 before it is connected.
  [[nodiscard]] int socket() const { return socket_.get(); }

  [[nodiscard]] FlowRank rank() const { return flow_rank(asked_, answered_); }

  const FlowKey key;
  const std::size_t socket_index;  ///< index of the host's socket
  TimePoint used{};                ///< the table's, like `place`
  FlowTable<Flow>::Place place;
  TimePoint examined{};            ///< the owner's: when the client was last authorized
  std::uint32_t client_inode = 0;  ///< the owner's: inode of the client's socket, when authorized

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
  static constexpr std::size_t kMostUnconnected = 256;  ///< flows that are not connected
  static constexpr Duration kExamineInterval = std::chrono::milliseconds(250);
  static constexpr Duration kRefusal = std::chrono::seconds(1);
  static constexpr Duration kFinishTimeout = std::chrono::seconds(10);

  DatagramPort(const RelayServices& services, ForwardPortSettings settings,
               ForwardPortObserver& observer);

  [[nodiscard]] std::expected<void, BindFailure> bind(std::span<const Address> addresses) override {
    return listener_.bind(addresses);
  }
  /// Flows continue for kFinishTimeout at most, unless the target refuses their datagrams. Never
  /// fails.
  [[nodiscard]] std::expected<void, BindFailure> hold() override;
  /// Flows that are connected keep their previous target. Never fails.
  [[nodiscard]] std::expected<void, BindFailure> serve(
      Dialer& dialer, std::span<const ListenAddress> listeners) override;
  /// Ends all flows at once, since their answers would have to be sent from the host port, which is
  /// closed.
  void drain(Duration limit) override;
  [[nodiscard]] PortRecord save() override;
  void restore(PortRecord record) override;

  /// While nothing listens, a change of `hold` also restarts the timeouts of clients that wait.
  void configure(ForwardPortSettings settings) override;
  [[nodiscard]] const std::vector<Address>& addresses() const override {
    return listener_.addresses();
  }

 private:
  friend class Flow;
  enum class Mode : std::uint8_t { Serving, Finishing, Waiting, Refusing, Closed };

  void on_io(IoSource& source, std::uint32_t events) override;
  // The three calls of a Flow; from within them it may be retired, not destroyed.
  /// The target has sent a datagram, or has refused one.
  void on_answers(Flow& flow);
  void on_flow_connected(Flow& flow);
  void on_flow_failed(Flow& flow, const Error& error);

  void enter(Mode mode);
  [[nodiscard]] Mode mode_without_listener() const;
  void on_mode_timeout();
  void relay_batch(std::size_t socket_index, const ReceivedDatagrams& received);
  [[nodiscard]] Flow* flow_of(std::size_t socket_index, const Arrived& end);
  [[nodiscard]] Flow* admit(const FlowKey& client, std::size_t socket_index);
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
  Timer mode_timeout_;      ///< armed in Finishing, in Waiting after a datagram, and in Refusing
  Timer idle_;              ///< not later than the expiry of the next flow
  Timer dial_unconnected_;  ///< armed by serve()
  Timer drained_;
};

}  // namespace portfwd
