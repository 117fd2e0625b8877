// The listening side of one forward: one port on a few addresses, held together or not at all; on
// the host, or on sockets that were made in a container. Owned by its ForwardPort. It accepts and
// hands over; it knows neither users nor containers.
//
// Four states. *Bound*: clients wait in the kernel's queue; accept() or refuse() follows in the
// same turn. *Refusing*: bound but not listening, so the port is ours and a client is told the
// truth at once. *Accepting*. *Closed*. Never SO_REUSEPORT: somebody else's server must not share
// the port with us.
//
// SO_REUSEADDR is on at bind(2), else connections in TIME_WAIT would block the port, and must be
// off while the listener refuses, else another user could bind the port too. Three rules follow:
//  - Before Linux 6.12 (6.1 does, 6.12 does not) the kernel remembers for the whole port that its
//    owner had it on at bind(2), until a listen(2): a port that is bound listens once, at once.
//  - It is off before a listener is shut down, so that there is no moment in between.
//    shutdown(2) is only for a port that is to refuse: a SYN that the kernel has just matched to
//    the listener is dropped without an answer, and its client tries again a second later.
//  - It is off at listen(2). Only where that fails, as connections of before are open or in
//    TIME_WAIT, it is on for one more attempt: in this moment another user may take the port.
// While the listener accepts it is on, as what is accepted inherits it, and a port with connections
// that lack it can't be bound again. A connection that was complete before it was on gets it by
// itself: those are accepted before the first that finds the queue empty. Source: inet_csk_get_port
// and inet_csk_bind_conflict in net/ipv4/inet_connection_sock.c; platform tests HostPortFacts;
// second_user tests HeldPort.
#pragma once

#include <deque>
#include <expected>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "net/address.h"
#include "relay/accept_gate.h"
#include "relay/relay_context.h"

namespace portfwd {

// Host ports as bound sockets: one port on a few addresses, held together or not at all. Whoever
// binds owns them. It knows nothing of who listens on them and why.
struct BindFailure {
  Protocol protocol = Protocol::Tcp;
  Address address;  ///< the one that could not be had
  Error error;      ///< EADDRINUSE, EACCES, EADDRNOTAVAIL, ...
};

/// A socket that is bound and, if of TCP, does not listen, wherever it was made.
struct BoundSocket {
  Address address;
  UniqueFd socket;  ///< non-blocking
};

/// On all of `addresses` (at least one) or on none. A loopback address of a family that this host
/// lacks is left out, as long as one remains. Those of TCP have SO_REUSEADDR, else connections in
/// TIME_WAIT would block the port; those of UDP have not, since there it lets anybody share the
/// port. Source: ip(7), socket(7), udp_lib_get_port in net/ipv4/udp.c.
[[nodiscard]] std::expected<std::vector<BoundSocket>, BindFailure> bind_together(
    Protocol protocol, std::span<const Address> addresses);

/// A client as accept(2) gives it.
struct Arrival {
  UniqueFd socket;      ///< non-blocking, tuned
  Endpoint client;      ///< its own end
  Endpoint arrived_at;  ///< what the listener is bound to
};

class ClientSink {
 public:
  /// May pause the listener, not close or destroy it.
  virtual void on_client(Arrival arrival) = 0;
  /// How many clients of the listener are still connected.
  [[nodiscard]] virtual std::size_t connections() const = 0;

 protected:
  ~ClientSink() = default;
};

class HostListener final : private IoHandler, private AcceptGate::Member {
 public:
  /// Most clients that one socket accepts in a turn. Each costs some 50 us with all that follows at
  /// once, so more would delay everything else; fewer would cost a wait per client in a burst.
  static constexpr int kAcceptsPerTurn = 16;

  /// Closed at first. All references are borrowed.
  HostListener(RelayContext& context, AcceptGate& gate, ClientSink& sink);
  HostListener(const HostListener&) = delete;
  HostListener& operator=(const HostListener&) = delete;
  ~HostListener();

  /// From closed to bound, see bind_together().
  [[nodiscard]] std::expected<void, BindFailure> bind(std::span<const Address> addresses);
  /// From closed to bound, on sockets that somebody else has bound (at least one). On failure,
  /// EADDRINUSE (another process was quicker), it stays closed.
  [[nodiscard]] std::expected<void, BindFailure> adopt(std::vector<BoundSocket> sockets);
  /// From bound or refusing to accepting. EADDRINUSE is possible when it refused: then it goes on.
  [[nodiscard]] std::expected<void, BindFailure> accept();
  /// From bound or accepting to refusing; whoever waits in the queue is reset. The port stays ours.
  void refuse();
  void close();

  /// While paused, clients wait in the kernel's queue.
  void pause(bool paused);
  [[nodiscard]] const std::vector<Address>& addresses() const { return addresses_; }
  [[nodiscard]] bool accepting() const { return accepting_; }

 private:
  struct Socket {
    Socket(HostListener& owner, UniqueFd socket, const Endpoint& at)
        : fd(std::move(socket)), endpoint(at), source(owner.context_.loop(), fd.get(), owner) {}
    UniqueFd fd;
    Endpoint endpoint;
    IoSource source;
    bool inherited = false;  ///< all that is accepted from now on has SO_REUSEADDR
    int accepts = 1;         ///< at most, in the turn that was the last with a client
    std::uint64_t turn = 0;  ///< that turn
  };

  void on_io(IoSource& source, std::uint32_t events) override;
  void on_gate() override { update_interest(); }
  [[nodiscard]] std::size_t connections() const override { return sink_.connections(); }
  void update_interest();
  [[nodiscard]] int accepts_now(Socket& socket) const;

  RelayContext& context_;
  AcceptGate& gate_;
  ClientSink& sink_;
  std::vector<Address> addresses_;
  std::deque<Socket> sockets_;  ///< pinned, as sources must be
  bool accepting_ = false;
  bool paused_ = false;
};

}  // namespace portfwd
