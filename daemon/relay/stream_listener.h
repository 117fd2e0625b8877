// The listening sockets of one forward of streams, created on the host, or in a container: one TCP
// port on a few addresses, or one Unix socket. Owned by a StreamPort. A listener accepts clients
// and passes them on; it knows neither users nor containers.
//
//   Closed     no sockets
//   Bound      accept(), refuse() or close() must follow in the same turn
//   Refusing   bound but not listening: the port or path stays occupied, and the kernel refuses
//              clients
//   Accepting  clients are accepted, unless the listener is paused
//
// TCP. Clients wait in the kernel's queue while the listener is Bound. SO_REUSEPORT is never set:
// another program's server must not share the port. SO_REUSEADDR is on at bind(2), since
// connections in TIME_WAIT would block the port otherwise. It must be off while the listener
// refuses, since another user could bind the port otherwise. Three rules follow:
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
//
// Unix. A listener that was shut down refuses, and cannot listen again: accept() then requests
// another socket at the same path (PlaceBinding::renew), and clients are refused until it is there.
// A client that is not accepted yet may have sent a descriptor whose close(2) waits, so a socket
// that has listened is discarded, see Carrier. Source: unix(7), net/unix/af_unix.c; platform test
// UnixSocketFacts.
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

struct BoundSocket;

/// The path or abstract name of a Unix socket, which is released when this is destroyed.
class PlaceBinding {
 public:
  /// Called once, never from within renew(). It may destroy the PlaceBinding.
  using OnSocket = std::move_only_function<void(Result<UniqueFd> socket)>;

  virtual ~PlaceBinding() = default;
  /// Requests another bound socket that takes the place of the present one, at once for clients.
  /// A request under way is cancelled, as by the destructor.
  virtual void renew(OnSocket on_socket) = 0;
};

/// A bound socket, created on the host or in a container. It does not listen, unless it is from
/// StreamListener::save().
struct BoundSocket {
  Address address;
  UniqueFd socket;                          ///< non-blocking
  std::unique_ptr<PlaceBinding> binding{};  ///< of a Unix socket; else null
};

/// Binds all of `addresses` (at least one) or none. A loopback address of a family that this host
/// lacks is left out, as long as one remains. TCP sockets have SO_REUSEADDR, since connections in
/// TIME_WAIT would block the port otherwise. UDP sockets do not, since it would let any program
/// share the port. Source: ip(7), socket(7), udp_lib_get_port in net/ipv4/udp.c.
[[nodiscard]] std::expected<std::vector<BoundSocket>, BindFailure> bind_together(
    Protocol protocol, std::span<const Address> addresses);

/// A client that was accepted.
struct Arrival {
  UniqueFd socket;     ///< non-blocking, tuned
  Address client;      ///< the client's end; a Unix client usually has no name: an empty UnixPath
  Address arrived_at;  ///< what the listening socket is bound to
};

class StreamListener : protected IoHandler {
 public:
  /// The largest number of clients that one socket accepts in a turn. Each costs about 50 us,
  /// including its dial, so more would delay other handlers; with fewer, a burst would cost a wait
  /// for each client.
  static constexpr int kAcceptsPerTurn = 16;

  /// Called for each client. May call set_connections(); must not close or destroy the listener.
  using OnClient = std::move_only_function<void(Arrival arrival)>;

  StreamListener(const StreamListener&) = delete;
  StreamListener& operator=(const StreamListener&) = delete;
  virtual ~StreamListener() = default;

  /// From Closed to Bound, with sockets that are already bound (at least one). If listen(2) fails
  /// (EADDRINUSE: another process listens first), it stays Closed.
  [[nodiscard]] std::expected<void, BindFailure> adopt(std::vector<BoundSocket> sockets);
  /// From Bound or Refusing to Accepting; does nothing if it accepts already. EADDRINUSE is
  /// possible after Refusing: then it continues to refuse.
  [[nodiscard]] std::expected<void, BindFailure> accept();
  /// From Bound or Accepting to Refusing; clients in the queue are reset. The port or path stays
  /// bound.
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

 protected:
  struct Socket {
    Socket(StreamListener& owner, BoundSocket bound)
        : fd(std::move(bound.socket)),
          address(std::move(bound.address)),
          binding(std::move(bound.binding)),
          source(owner.context_.loop(), fd.get(), owner) {}
    UniqueFd fd;
    Address address;
    std::unique_ptr<PlaceBinding> binding;
    IoSource source;
    bool refuses = false;    ///< was shut down
    bool inherited = false;  ///< accepted sockets need no further option
    int accepts = 1;         ///< limit in the last turn with a client
    std::uint64_t turn = 0;  ///< number of that turn
  };

  /// Closed at first. @param context, gate borrowed
  StreamListener(RelayContext& context, AcceptGate& gate, OnClient on_client);

  // ---- by kind
  /// Prepares a socket that is bound. @return 0 or an errno
  [[nodiscard]] virtual int prepare(Socket& socket) = 0;
  /// Lets a socket listen, now or as soon as it can. @return 0 or an errno
  [[nodiscard]] virtual int start(Socket& socket) = 0;
  /// Lets the kernel refuse clients of a socket.
  virtual void stop(Socket& socket) = 0;
  /// Completes a socket that was accepted before Socket::inherited was set.
  virtual void complete(int /*accepted*/) {}
  virtual void close_socket(Socket& /*socket*/) {}

  [[nodiscard]] bool accepting() const { return accepting_; }
  void update_interest();

  RelayContext& context_;
  std::list<Socket> sockets_;  ///< pinned, as sources must be

 private:
  void on_io(IoSource& source, std::uint32_t events) override;
  [[nodiscard]] int accept_limit(Socket& socket) const;

  AcceptGate& gate_;
  AcceptGate::Member member_;
  OnClient on_client_;
  std::vector<Address> addresses_;
  bool accepting_ = false;
  bool paused_ = false;
};

class TcpListener final : public StreamListener {
 public:
  /// @param context, gate borrowed
  TcpListener(RelayContext& context, AcceptGate& gate, OnClient on_client)
      : StreamListener(context, gate, std::move(on_client)) {}

 private:
  int prepare(Socket& socket) override;
  int start(Socket& socket) override;
  void stop(Socket& socket) override;
  void complete(int accepted) override;
};

class UnixListener final : public StreamListener {
 public:
  /// Takes a socket that has listened.
  using Discard = std::move_only_function<void(UniqueFd socket)>;
  /// The path could not be bound again. May destroy the listener.
  using OnLost = std::move_only_function<void(const BindFailure& failure)>;

  /// @param context, gate borrowed
  UnixListener(RelayContext& context, AcceptGate& gate, OnClient on_client, Discard discard,
               OnLost on_lost)
      : StreamListener(context, gate, std::move(on_client)),
        discard_(std::move(discard)),
        on_lost_(std::move(on_lost)) {}
  ~UnixListener() override { close(); }

 private:
  int prepare(Socket& socket) override;
  int start(Socket& socket) override;
  void stop(Socket& socket) override;
  void close_socket(Socket& socket) override;
  void replace(Socket& old, UniqueFd renewed);

  Discard discard_;
  OnLost on_lost_;
};

}  // namespace portfwd
