// The listening side of one forward, for both protocols: a ForwardPort accepts clients at its
// addresses and relays them to a target. Owned by a Forward, which decides whether the port holds,
// serves or drains. It knows no container and reads no configuration.
//
// A client is authorized or refused before any of its bytes reach the target.
#pragma once

#include <array>
#include <cassert>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "config/settings.h"
#include "relay/accept_gate.h"
#include "relay/client_identity.h"
#include "relay/connection.h"
#include "relay/dialer.h"
#include "relay/relay_context.h"
#include "relay/stream_listener.h"

namespace portfwd {

/// Logs which clients a forward has refused and which setting would allow them. A client can retry
/// at any rate, so at most one line a second is written, with the number of refusals since the last
/// one.
class RefusalLog {
 public:
  /// @param id, name those of the forward
  void write(TimePoint now, const std::string& id, const std::string& name, const Address& client,
             const ClientVerdict& verdict);

 private:
  TimePoint next_line_{};         ///< no line is written before
  std::uint64_t suppressed_ = 0;  ///< refusals since the last line
};

/// What all forwards share. Borrowed; must outlive them.
struct RelayServices {
  RelayContext& context;
  AcceptGate& gate;
  ClientIdentity& identity;
  UnixCarriers* unix_carriers = nullptr;  ///< null: no forward has a Unix socket on either side
};

struct ForwardPortSettings {
  Duration hold = std::chrono::seconds(5);  ///< 0: refuse at once instead of holding
  Duration connect_timeout = std::chrono::seconds(10);
  unsigned max_connections = 0;  ///< 0: limited by descriptors alone
  Admission admission = {};
  ProxyProtocol proxy_protocol = ProxyProtocol::Off;  ///< header sent to the target
  bool pass_fds = false;                              ///< see CarryOptions
  std::string container;                              ///< its key, see UnixCarriers
  std::string id;                                     ///< of the forward, for the journal: "f1"
  std::string name;                                   ///< for log lines: "web:8080"
};

/// The target of a forward leads back to its own host port, see LoopGuard. Not an error of a system
/// call.
inline constexpr Error kLeadsBack{ELOOP, "follow the target"};

/// Whether no client can be connected to the target, as opposed to a refusal: addresses, routes or
/// interfaces are at fault (a loopback interface that is down does not answer), the server does not
/// accept, or the target leads back to the host port.
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
      return error.op == "connect";  // a timeout with another op: no socket was available
    case ELOOP:
      return error.op == kLeadsBack.op;  // not a loop of symbolic links
    default:
      return false;
  }
}

/// A clause for the user. @param error one that cannot_be_dialled()
[[nodiscard]] std::string undialable_reason(const Error& error);

class ForwardPort;
struct PortRecord;

class ForwardPortObserver {
 public:
  /// A client could not be connected, or the target has refused a datagram: its listener may have
  /// closed. May call hold(), serve() or drain().
  virtual void on_target_refused(ForwardPort& port, const Error& error) = 0;
  /// A client was connected to the target after an error that cannot_be_dialled().
  virtual void on_target_reached(ForwardPort&) {}
  /// The place where the port listened cannot be bound again, so that clients are refused. May
  /// retire the port, must not destroy it.
  virtual void on_place_lost(ForwardPort&, const BindFailure&) {}
  /// drain() is complete. This is the last call. May retire the port, must not destroy it.
  virtual void on_drained(ForwardPort& port) = 0;

 protected:
  ~ForwardPortObserver() = default;
};

// The rules that both protocols share: settings, counters, authorization of clients, what to dial,
// and the notifications of the observer about the target. A member of a ForwardPort; its subclasses
// move the bytes.
//
//   New       neither hold(), serve() nor drain() was called yet
//   Holding   nothing listens at the target: clients wait or are refused
//   Serving   clients are dialled for; the only phase with a dialer
//   Draining  no client is accepted; the last phase
class PortCore {
 public:
  enum class Phase : std::uint8_t { New, Holding, Serving, Draining };

  /// @param port the owner of this member, passed to the observer
  PortCore(const RelayServices& services, ForwardPortSettings settings, ForwardPort& port,
           ForwardPortObserver& observer)
      : services_(services), settings_(std::move(settings)), port_(port), observer_(observer) {}
  PortCore(const PortCore&) = delete;
  PortCore& operator=(const PortCore&) = delete;

  [[nodiscard]] RelayContext& context() const { return services_.context; }
  [[nodiscard]] AcceptGate& gate() const { return services_.gate; }
  [[nodiscard]] ClientIdentity& identity() const { return services_.identity; }
  [[nodiscard]] EventLoop& loop() const { return services_.context.loop(); }
  [[nodiscard]] TimePoint now() const { return loop().now(); }

  [[nodiscard]] const ForwardPortSettings& settings() const { return settings_; }
  void set_settings(ForwardPortSettings settings) { settings_ = std::move(settings); }
  /// Whether clients wait while the target does not listen; otherwise they are refused.
  [[nodiscard]] bool holds_clients() const { return settings_.hold > Duration::zero(); }
  [[nodiscard]] Counters& counters() { return counters_; }
  [[nodiscard]] const Counters& counters() const { return counters_; }

  [[nodiscard]] Phase phase() const { return phase_; }
  [[nodiscard]] bool serving() const { return phase_ == Phase::Serving; }
  /// Whether a connection has a Unix socket at the target's side.
  [[nodiscard]] bool dials_unix() const;
  /// The carrier of connections with a Unix socket on either side.
  [[nodiscard]] std::shared_ptr<Carrier> unix_carrier() const {
    assert(services_.unix_carriers != nullptr);
    return services_.unix_carriers->of(settings_.container);
  }
  void hold();
  /// @param dialer borrowed until the next call of hold(), serve() or drain()
  /// @param listeners at least one
  void serve(Dialer& dialer, std::span<const ListenAddress> listeners);
  void drain();

  /// Dials the target for a client of family `client`, with a deadline of
  /// settings().connect_timeout. Must be serving.
  [[nodiscard]] DialStart dial(Family client, DialHandler& handler);
  /// Counts and logs a client that is not allowed. @return whether it is allowed
  [[nodiscard]] bool authorize(const ClientVerdict& verdict, const Address& client);

  /// Records whether a failed dial means that the target cannot be dialled. Does not call the
  /// observer.
  void note_dial_failed(const Error& error) { undialable_ = cannot_be_dialled(error); }
  /// The observer may change the phase from within the call.
  void notify_refused(const Error& error);
  /// Must be called when a client was connected. Notifies the observer if the last dial failed with
  /// an error that cannot_be_dialled().
  void notify_reached();
  void notify_lost(const BindFailure& failure) { observer_.on_place_lost(port_, failure); }
  void notify_drained();

 private:
  RelayServices services_;
  ForwardPortSettings settings_;
  ForwardPort& port_;
  ForwardPortObserver& observer_;
  Counters counters_;
  RefusalLog refusals_;
  Phase phase_ = Phase::New;
  bool undialable_ = false;   ///< the last dial failed with cannot_be_dialled()
  Dialer* dialer_ = nullptr;  ///< borrowed; null unless Serving
  std::array<std::vector<Address>, 2> candidates_;  ///< to dial, by the client's family
};

class ForwardPort : public Retirable {
 public:
  ForwardPort(const RelayServices& services, ForwardPortSettings settings,
              ForwardPortObserver& observer)
      : core_(services, std::move(settings), *this, observer) {}
  ForwardPort(const ForwardPort&) = delete;
  ForwardPort& operator=(const ForwardPort&) = delete;

  /// Binds all of `addresses` or none, see bind_together(). hold() or serve() must follow in the
  /// same turn of the loop. Before that, TCP clients wait and datagrams are refused.
  [[nodiscard]] virtual std::expected<void, BindFailure> bind(
      std::span<const Address> addresses) = 0;
  /// The target does not listen: clients wait, or are refused if settings.hold is 0. Must not be
  /// called after drain().
  [[nodiscard]] virtual std::expected<void, BindFailure> hold() = 0;
  /// Dials for clients that wait and for new clients. Must not be called after drain().
  /// @param dialer borrowed until the next hold(), serve() or drain() @param listeners at least one
  [[nodiscard]] virtual std::expected<void, BindFailure> serve(
      Dialer& dialer, std::span<const ListenAddress> listeners) = 0;
  /// Closes the host port at once and refuses clients that wait. on_drained is called when the last
  /// connection has ended, after `limit` at the latest, never from within this call. With
  /// Duration::max() there is no limit. May be called again with another limit.
  virtual void drain(Duration limit) = 0;

  /// Moves the sockets, clients and connections into a record, for the successor of this port in a
  /// restarted daemon. No connection is closed; only dials under way are cancelled. Must not be
  /// called from within a call of the observer or of one of the port's own sources. The port must
  /// not be used afterwards.
  [[nodiscard]] virtual PortRecord save() = 0;
  /// Continues with what save() returned. Must be called instead of bind(); hold(), serve() or
  /// drain() must follow in the same turn. A relay or flow with a socket that cannot be watched is
  /// ended and counted as failed.
  virtual void restore(PortRecord record) = 0;

  /// Applies to new clients. TCP clients that wait keep their deadlines.
  virtual void configure(ForwardPortSettings settings) = 0;
  [[nodiscard]] const std::string& id() const { return core_.settings().id; }
  [[nodiscard]] const Counters& counters() const { return core_.counters(); }
  [[nodiscard]] virtual const std::vector<Address>& addresses() const = 0;

 protected:
  PortCore core_;
};

/// @param listens the kind of its own sockets
[[nodiscard]] std::unique_ptr<ForwardPort> make_forward_port(Protocol listens,
                                                             const RelayServices& services,
                                                             const ForwardPortSettings& settings,
                                                             ForwardPortObserver& observer);

}  // namespace portfwd
