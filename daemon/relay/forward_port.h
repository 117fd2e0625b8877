// The host side of one forward, from its host port to its target, whatever its protocol. Owned by
// the forward table, which decides what it is to do and why; this one does it. It knows no
// container and reads no configuration.
//
// A client is let in or refused before one byte of it reaches the target.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "config/settings.h"
#include "relay/client_identity.h"
#include "relay/dialer.h"
#include "relay/host_listener.h"

namespace portfwd {

// What flowed through one forward. Owned by its ForwardPort, counted up by relays as it happens.
struct Counters {
  std::uint64_t active = 0;
  std::uint64_t total = 0;
  std::uint64_t failed = 0;    ///< the target refused or did not answer
  std::uint64_t refused = 0;   ///< we did: another user, or one that could not be identified
  std::uint64_t bytes_in = 0;  ///< towards the container
  std::uint64_t bytes_out = 0;

  friend bool operator==(const Counters&, const Counters&) = default;
};

// Tells the journal whom a forward has refused and what would let such a client in: at most one
// line a second, with what was left unsaid, since a refused client can try as often as it likes. A
// member of a ForwardPort.
class RefusalLog {
 public:
  /// @param id, name of the forward
  void tell(TimePoint now, const std::string& id, const std::string& name, const Endpoint& client,
            const ClientVerdict& verdict);

 private:
  TimePoint may_tell_{};
  std::uint64_t untold_ = 0;
};

class AcceptGate;
class RelayContext;

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

/// The target of a forward is its own host port, see LoopGuard. No system call fails with it.
inline constexpr Error kLeadsBack{ELOOP, "follow the target"};

/// Nothing at the target's address answers at all: the failure is one of addresses, routes and
/// interfaces (a loopback interface that is down is silent), or of a server that accepts nobody.
[[nodiscard]] constexpr bool cannot_be_dialled(const Error& error) {
  switch (error.code) {
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL:
    case EINVAL:
    case ENODEV:
      return true;
    case ETIMEDOUT:
      return error.op == "connect";  // not for want of a socket
    case ELOOP:
      return error.op == kLeadsBack.op;  // not a path
    default:
      return false;
  }
}

/// For people. @param error cannot_be_dialled()
[[nodiscard]] std::string why_undialable(const Error& error);

class ForwardPort;

class ForwardPortObserver {
 public:
  /// The target has refused: perhaps the listener is gone. The port may be told to hold() or to
  /// serve() from within.
  virtual void on_target_refused(ForwardPort& port, const Error& error) = 0;
  /// A client got through to the target after cannot_be_dialled().
  virtual void on_target_reached(ForwardPort&) {}
  /// drain() is over. The last call; the port may be retired, not destroyed, from within.
  virtual void on_drained(ForwardPort& port) = 0;

 protected:
  ~ForwardPortObserver() = default;
};

class ForwardPort : public Retirable {
 public:
  /// Takes all of `addresses` or on none, see bind_together(). hold() or serve() must
  /// follow in the same turn of the loop; clients that come before it wait.
  [[nodiscard]] virtual std::expected<void, BindFailure> bind(
      std::span<const Address> addresses) = 0;
  /// Nothing listens inside: clients wait, or are refused with settings.hold 0.
  [[nodiscard]] virtual std::expected<void, BindFailure> hold() = 0;
  /// For every client that comes and for all that wait.
  /// @param dialer borrowed until the next hold(), serve() or drain() @param listeners at least one
  [[nodiscard]] virtual std::expected<void, BindFailure> serve(
      Dialer& dialer, std::span<const ListenAddress> listeners) = 0;
  /// Gives up the host port at once and refuses whoever waits. on_drained follows when the last
  /// client is done, after `limit` at the latest, never from within this call. With Duration::max()
  /// there is no limit; it may be called again with another one.
  virtual void drain(Duration limit) = 0;

  /// For clients to come; those that wait keep their deadlines.
  virtual void configure(ForwardPortSettings settings) = 0;
  [[nodiscard]] virtual const std::string& id() const = 0;  ///< as in the settings
  [[nodiscard]] virtual const Counters& counters() const = 0;
  [[nodiscard]] virtual const std::vector<Address>& addresses() const = 0;
};

[[nodiscard]] std::unique_ptr<ForwardPort> make_forward_port(Protocol protocol,
                                                             const RelayServices& services,
                                                             const ForwardPortSettings& settings,
                                                             ForwardPortObserver& observer);

}  // namespace portfwd
