// The listening sockets of one TCP forward: one port on a few addresses, bound together or not at
// all; created on the host, or in a container. A member of a StreamPort. It accepts clients and
// passes them on; it knows neither users nor containers.
//
//   Closed     no sockets
//   Bound      clients wait in the kernel's queue; accept(), refuse() or close() must follow in the
//              same turn
//   Refusing   bound but not listening: the port stays occupied, and the kernel refuses clients
//   Accepting  clients are accepted, unless the listener is paused
// SO_REUSEPORT is never set: another program's server must not share the port.
//
// SO_REUSEADDR is on at bind(2), since connections in TIME_WAIT would block the port otherwise. It
// must be off while the listener refuses, since another user could bind the port otherwise. Three
// rules follow:
//  - Before Linux 6.12 (6.1 does, 6.12 does not) the kernel remembers, for the whole port, that it
//    was on at bind(2), until a listen(2). So a port that is bound listens once, at once.
//  - It is switched off before a listener is shut down, so that there is no moment in between.
//    shutdown(2) is used only for a port that must refuse: a SYN that the kernel has just matched
//    to the listener is dropped without an answer, and its client retries a second later.
//  - It is off at listen(2). Only if that fails, because earlier connections are open or in
//    TIME_WAIT, it is on for one more attempt: at this moment another user may take the port.
// It is on while the listener accepts, since accepted sockets inherit it, and a port with
// connections that lack it cannot be bound again. It is set separately on connections that were
// complete before it was on: those that are accepted before the first accept(2) that finds the
// queue empty. Source: inet_csk_get_port and inet_csk_bind_conflict in
// net/ipv4/inet_connection_sock.c; platform tests HostPortFacts; second_user tests HeldPort.
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
  Address address;  ///< the address that could not be bound
  Error error;      ///< EADDRINUSE, EACCES, EADDRNOTAVAIL, ...
};

/// A bound socket, created on the host or in a container. A TCP one does not listen, unless it is
/// from HostListener::save().
struct BoundSocket {
  Address address;
  UniqueFd socket;  ///< non-blocking
};

/// Binds all of `addresses` (at least one) or none. A loopback address of a family that this host
/// lacks is left out, as long as one remains. TCP sockets have SO_REUSEADDR, since connections in
/// TIME_WAIT would block the port otherwise. UDP sockets do not, since it would let any program
/// share the port. Source: ip(7), socket(7), udp_lib_get_port in net/ipv4/udp.c.
[[nodiscard]] std::expected<std::vector<BoundSocket>, BindFailure> bind_together(
    Protocol protocol, std::span<const Address> addresses);

/// A client that was accepted.
struct Arrival {
  UniqueFd socket;      ///< non-blocking, tuned
  Endpoint client;      ///< the client's end
  Endpoint arrived_at;  ///< what the listening socket is bound to
};

class HostListener final : private IoHandler {
 public:
  /// The largest number of clients that one socket accepts in a turn. Each costs about 50 us,
  /// including its dial, so more would delay other handlers; with fewer, a burst would cost a wait
  /// for each client.
  static constexpr int kAcceptsPerTurn = 16;

  /// Called for each client. May call set_connections(); must not close or destroy the listener.
  using OnClient = std::move_only_function<void(Arrival arrival)>;

  /// Closed at first. @param context, gate borrowed
  HostListener(RelayContext& context, AcceptGate& gate, OnClient on_client);
  HostListener(const HostListener&) = delete;
  HostListener& operator=(const HostListener&) = delete;

  /// From Closed to Bound, see bind_together().
  [[nodiscard]] std::expected<void, BindFailure> bind(std::span<const Address> addresses);
  /// From Closed to Bound, with sockets that are already bound (at least one). If listen(2) fails
  /// (EADDRINUSE: another process listens first), it stays Closed.
  [[nodiscard]] std::expected<void, BindFailure> adopt(std::vector<BoundSocket> sockets);
  /// From Bound or Refusing to Accepting; does nothing if it accepts already. EADDRINUSE is
  /// possible after Refusing: then it continues to refuse.
  [[nodiscard]] std::expected<void, BindFailure> accept();
  /// From Bound or Accepting to Refusing; clients in the queue are reset. The port stays bound.
  void refuse();
  /// From any state to Closed.
  void close();
  /// From any state to Closed. Returns the sockets unchanged, listening or refusing, and no longer
  /// watches them.
  [[nodiscard]] std::vector<BoundSocket> save();
  /// From Closed to Bound, or to Refusing if they do not listen, with what save() returned.
  void restore(std::vector<BoundSocket> sockets);

  /// Sets the number of the listener's clients. With `most` or more it is paused: new clients wait
  /// in the kernel's queue. @param most 0: no limit
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
    int accepts = 1;         ///< limit in the last turn with a client
    std::uint64_t turn = 0;  ///< number of that turn
  };

  void on_io(IoSource& source, std::uint32_t events) override;
  void update_interest();
  [[nodiscard]] int accept_limit(Socket& socket) const;

  RelayContext& context_;
  AcceptGate& gate_;
  AcceptGate::Member member_;
  OnClient on_client_;
  std::vector<Address> addresses_;
  std::list<Socket> sockets_;  ///< pinned, as sources must be
  bool accepting_ = false;
  bool paused_ = false;
};

}  // namespace portfwd
