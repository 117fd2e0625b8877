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

// One host port of a datagram forward: a UDP socket that hears everybody, or refuses. A member of
// its DatagramPort. It knows neither flows nor users.
//
// A UDP socket that hears everybody can't refuse anybody: the kernel sends "port unreachable"
// (ICMP) only where no socket matches. So to refuse, it is connected to itself: it keeps its port,
// nobody else can bind it, nothing matches any more, and the kernel answers every sender
// truthfully. What a sender is told concerns its next datagram at the earliest: one that was
// received can't be given back. A wildcard one can't do so, since connecting gives it one address
// and leaves the others to anybody: it keeps silent. Fact:
// UdpPortFacts.ASocketConnectedToItselfKeepsItsPortAndRefuses
class DatagramSocket {
 public:
  /// Refuses at first. @param handler borrowed
  DatagramSocket(EventLoop& loop, BoundSocket bound, IoHandler& handler);
  DatagramSocket(const DatagramSocket&) = delete;
  DatagramSocket& operator=(const DatagramSocket&) = delete;

  /// From now on it is heard, or what comes waits in the kernel until it is.
  void listen(bool heard);
  /// What waits is lost, and whoever sends is refused.
  void refuse();

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

// Which flow a datagram belongs to, and which flow goes next: found by the client's address, kept
// in the order of their last use, one order for each rank, so that whatever is asked takes the same
// time with one flow as with thousands. Owned by a DatagramPort. It knows no sockets: a Flow is
// anything that has `key`, `used`, `rank()` and `place`.
//
// Nothing tells which program a client belongs to: on loopback all have one address. So what
// protects a flow from a program that opens ports by the thousands is what it has carried.
/// Two clients are one if nobody can tell them apart.
struct FlowKey {
  Endpoint client;
  std::optional<IpAddress> at;  ///< the address of ours that it talks to, where there are several
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

/// What would be lost with a flow, the least first.
enum class FlowRank : std::uint8_t {
  Answered,    ///< a question and its answer, one datagram each, as DNS has it
  Fleeting,    ///< as little, and nothing says that it is over
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

template <class Flow>
class FlowTable {
  using Order = std::list<std::unique_ptr<Flow>>;

 public:
  /// Where a flow is kept; the table's own.
  struct Place {
    FlowRank rank = FlowRank::Fleeting;
    typename Order::iterator at;
    std::size_t* of_client = nullptr;  ///< how many flows its client's address has
  };

  static constexpr Duration kIdle = std::chrono::seconds(90);
  /// Of a question that was answered.
  static constexpr Duration kBriefIdle = std::chrono::seconds(10);

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
  /// It carried something just now.
  void touch(Flow& flow, TimePoint now) {
    assert(find(flow.key) == &flow);
    flow.used = now;
    Order& from = order_of(flow);
    flow.place.rank = flow.rank();
    Order& to = order_of(flow);
    to.splice(to.end(), from, flow.place.at);
  }

  /// When the next one will have been idle for too long; nothing while there is none.
  [[nodiscard]] std::optional<TimePoint> next_expiry() const {
    std::optional<TimePoint> next;
    for (const Order& order : orders_) {
      if (!order.empty()) next = std::min(next.value_or(TimePoint::max()), end_of(*order.front()));
    }
    return next;
  }
  /// One that has been idle for too long, or null.
  [[nodiscard]] Flow* expired(TimePoint now) const {
    for (const Order& order : orders_) {
      if (!order.empty() && end_of(*order.front()) <= now) return order.front().get();
    }
    return nullptr;
  }

  /// The one to give up for another: of the client addresses that have their share of the table or
  /// more, the flow of the lowest rank that was used longest ago. With one address that is the
  /// first; those of addresses that have less are passed over. There must be one.
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
  /// Takes time with each flow.
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

// One client of a datagram forward and the socket that stands for it inside: made in the
// container's namespace and connected to the listener, so that every client has a port of its own
// there and the kernel tells us when nobody listens any more. Owned by its DatagramPort, which
// moves the bytes. It knows neither users nor the host's socket.
//
// Until its socket is there, what the client sends is kept, a little of it.
class Flow;

class FlowObserver {
 public:
  // In each, `flow` may be retired, not destroyed.
  /// The target has sent something, or what was sent to it was refused.
  virtual void on_answers(Flow& flow) = 0;
  virtual void on_flow_connected(Flow& flow) = 0;
  virtual void on_flow_failed(Flow& flow, const Error& error) = 0;

 protected:
  ~FlowObserver() = default;
};

class Flow final : public Retirable, private IoHandler, private DialHandler {
 public:
  static constexpr std::size_t kMostKept = 64 * 1024;  ///< bytes, and datagrams of at least this:
  static constexpr std::size_t kLeastCharge = 1024;

  /// @param through which of its owner's sockets the client talks to; the references are borrowed
  Flow(EventLoop& loop, FlowObserver& observer, const FlowKey& client, std::size_t through)
      : key(client), via(through), loop_(loop), observer_(observer) {}
  Flow(const Flow&) = delete;
  Flow& operator=(const Flow&) = delete;
  ~Flow() override = default;

  /// The observer is told within the call, if the socket is there at once.
  /// @param dialer of datagram sockets, borrowed until the outcome or stop_dialling()
  void dial(Dialer& dialer, std::span<const Address> candidates, TimePoint deadline);
  /// It waits: for another dial().
  void stop_dialling() { dial_.reset(); }
  [[nodiscard]] bool dialling() const { return dial_ != nullptr; }
  /// It is done: nothing is heard of it from now on.
  void end();
  [[nodiscard]] bool ended() const { return ended_; }

  /// Towards the target, or kept until there is one. @return what was sent now
  DatagramsSent deliver(std::span<const Datagrams> messages);
  /// What was kept. To be called once it is connected.
  DatagramsSent deliver_kept();
  /// To it; -1 while it is not connected.
  [[nodiscard]] int socket() const { return socket_.get(); }

  [[nodiscard]] FlowRank rank() const { return flow_rank(asked, answered); }

  const FlowKey key;
  const std::size_t via;
  std::uint64_t asked = 0;     ///< the owner's: datagrams towards the target
  std::uint64_t answered = 0;  ///< the owner's
  TimePoint used{};            ///< the table's, as the next
  FlowTable<Flow>::Place place;
  TimePoint examined{};            ///< the owner's: when the client's standing was asked last
  std::uint32_t client_inode = 0;  ///< the owner's: of the client's socket, as it was let in

 private:
  void on_io(IoSource&, std::uint32_t) override { observer_.on_answers(*this); }
  void on_dialled(Result<UniqueFd> connected) override;
  void keep(const Datagrams& message);

  EventLoop& loop_;
  FlowObserver& observer_;
  std::unique_ptr<Dial> dial_;
  std::vector<std::vector<std::byte>> kept_;
  std::size_t kept_bytes_ = 0;
  UniqueFd socket_;
  std::optional<IoSource> source_;
  bool ended_ = false;
};

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
