// The listening sockets of one TCP forward: one port on a few addresses, bound together or not at
// all; made on the host, or in a container. A member of a StreamPort. It accepts clients and hands
// them over; it knows neither users nor containers.
//
// Four states:
//   Closed     no sockets
//   Bound      clients wait in the kernel's queue; accept() or refuse() follows in the same turn
//   Refusing   bound but not listening: the port is held, and the kernel refuses clients at once
//   Accepting  clients are accepted, unless the listener is paused
// Never SO_REUSEPORT: another program's server must not share the port.
//
// SO_REUSEADDR is on at bind(2), else connections in TIME_WAIT would block the port, and must be
// off while the listener refuses, else another user could bind the port too. Three rules follow:
//  - Before Linux 6.12 (6.1 does, 6.12 does not) the kernel remembers for the whole port that its
//    owner had it on at bind(2), until a listen(2): so a port that is bound listens once, at once.
//  - It is switched off before a listener is shut down, so that there is no moment in between.
//    shutdown(2) is only for a port that shall refuse: a SYN that the kernel has just matched to
//    the listener is dropped without an answer, and its client retries a second later.
//  - It is off at listen(2). Only where that fails, because earlier connections are open or in
//    TIME_WAIT, it is on for one more attempt: at this moment another user may take the port.
// While the listener accepts it is on, since accepted sockets inherit it, and a port with
// connections that lack it cannot be bound again. A connection that was complete before it was on
// gets it separately: those are accepted before the first accept(2) that finds the queue empty.
// Source: inet_csk_get_port and inet_csk_bind_conflict in net/ipv4/inet_connection_sock.c; platform
// tests HostPortFacts; second_user tests HeldPort.
#pragma once

#include <expected>
#include <functional>
#include <list>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "net/address.h"
#include "relay/accept_gate.h"
#include "relay/relay_context.h"

namespace portfwd {

struct BindFailure {
  Protocol protocol = Protocol::Tcp;
  Address address;  ///< the one that could not be bound
  Error error;      ///< EADDRINUSE, EACCES, EADDRNOTAVAIL, ...
};

/// A socket that is bound and, with TCP, does not listen; made on the host or in a container.
struct BoundSocket {
  Address address;
  UniqueFd socket;  ///< non-blocking
};

/// Binds all of `addresses` (at least one) or none. A loopback address of a family that this host
/// lacks is left out, as long as one remains. TCP sockets have SO_REUSEADDR, else connections in
/// TIME_WAIT would block the port; UDP sockets have not, since there it lets any program share the
/// port. Source: ip(7), socket(7), udp_lib_get_port in net/ipv4/udp.c.
[[nodiscard]] std::expected<std::vector<BoundSocket>, BindFailure> bind_together(
    Protocol protocol, std::span<const Address> addresses);

/// A client as accept(2) returns it.
struct Arrival {
  UniqueFd socket;      ///< non-blocking, tuned
  Endpoint client;      ///< its own end
  Endpoint arrived_at;  ///< what the listener is bound to
};

class HostListener final : private IoHandler {
 public:
  /// Clients that one socket accepts in a turn, at most. Each costs some 50 us with all that
  /// follows at once, so more would delay everything else; fewer would cost a wait per client in a
  /// burst.
  static constexpr int kAcceptsPerTurn = 16;

  /// Called for each client. May call set_connections(); must not close or destroy the listener.
  using OnClient = std::move_only_function<void(Arrival arrival)>;

  /// Closed at first. The references are borrowed.
  HostListener(RelayContext& context, AcceptGate& gate, OnClient on_client);
  HostListener(const HostListener&) = delete;
  HostListener& operator=(const HostListener&) = delete;

  /// From Closed to Bound, see bind_together().
  [[nodiscard]] std::expected<void, BindFailure> bind(std::span<const Address> addresses);
  /// From Closed to Bound, with sockets that are bound already (at least one). On failure,
  /// EADDRINUSE (another process was quicker), it stays Closed.
  [[nodiscard]] std::expected<void, BindFailure> adopt(std::vector<BoundSocket> sockets);
  /// From Bound or Refusing to Accepting, where it may be already. EADDRINUSE is possible after
  /// Refusing: then it goes on refusing.
  [[nodiscard]] std::expected<void, BindFailure> accept();
  /// From Bound or Accepting to Refusing; clients in the queue are reset. The port stays bound.
  void refuse();
  void close();
  /// Gives up the sockets as they are, listening or refusing, and is Closed.
  [[nodiscard]] std::vector<BoundSocket> save();
  /// From Closed to Bound, or to Refusing if they do not listen, with what save() returned.
  void restore(std::vector<BoundSocket> sockets);

  /// How many clients of the listener are connected. It is paused while they are `most` or more:
  /// then clients wait in the kernel's queue. @param most 0: no limit
  void set_connections(std::size_t count, std::size_t most);
  [[nodiscard]] const std::vector<Address>& addresses() const { return addresses_; }

 private:
  struct Socket {
    Socket(HostListener& owner, UniqueFd socket, const Endpoint& at)
        : fd(std::move(socket)), endpoint(at), source(owner.context_.loop(), fd.get(), owner) {}
    UniqueFd fd;
    Endpoint endpoint;
    IoSource source;
    bool inherited = false;  ///< all sockets accepted from now on have SO_REUSEADDR
    int accepts = 1;         ///< at most, in the last turn with a client
    std::uint64_t turn = 0;  ///< that turn
  };

  void on_io(IoSource& source, std::uint32_t events) override;
  void update_interest();
  [[nodiscard]] int accepts_now(Socket& socket) const;

  RelayContext& context_;
  AcceptGate& gate_;
  AcceptGate::Member member_;
  OnClient on_client_;
  std::vector<Address> addresses_;
  std::list<Socket> sockets_;  ///< pinned, as sources must be; one or two
  bool accepting_ = false;
  bool paused_ = false;
};

}  // namespace portfwd
