// The listening side of one forward, whatever its protocol: a ForwardPort accepts clients at its
// addresses and relays them to a target. Owned by a Forward, which decides what the port does and
// why. It knows no container and reads no configuration.
//
// A client is authorized or refused before one byte of it reaches the target.
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
#include "relay/dialer.h"
#include "relay/host_listener.h"
#include "relay/relay_context.h"

namespace portfwd {

/// What one forward has carried. Owned by its ForwardPort.
struct Counters {
  std::uint64_t active = 0;    ///< connections or flows at present
  std::uint64_t total = 0;     ///< clients that were authorized
  std::uint64_t failed = 0;    ///< the target refused or did not answer
  std::uint64_t refused = 0;   ///< clients that were not authorized
  std::uint64_t bytes_in = 0;  ///< towards the container
  std::uint64_t bytes_out = 0;

  friend bool operator==(const Counters&, const Counters&) = default;
};

/// Logs which clients a forward has refused and which setting would allow them: at most one line a
/// second, with the number of refusals since the last one, since a client can retry at any rate.
class RefusalLog {
 public:
  /// @param id, name of the forward
  void write(TimePoint now, const std::string& id, const std::string& name, const Endpoint& client,
             const ClientVerdict& verdict);

 private:
  TimePoint next_line_{};         ///< no line before
  std::uint64_t suppressed_ = 0;  ///< refusals since the last line
};

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

/// Whether nothing at the target's address answers at all: a failure of addresses, routes and
/// interfaces (a loopback interface that is down is silent), or a server that accepts no client.
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

/// A clause for the user. @param error cannot_be_dialled()
[[nodiscard]] std::string why_undialable(const Error& error);

class ForwardPort;
struct PortRecord;

class ForwardPortObserver {
 public:
  /// The target has refused: perhaps its listener has closed. May call hold(), serve() or drain().
  virtual void on_target_refused(ForwardPort& port, const Error& error) = 0;
  /// A client was connected to the target after a failure that cannot_be_dialled().
  virtual void on_target_reached(ForwardPort&) {}
  /// drain() is complete. The last call; may retire the port, must not destroy it.
  virtual void on_drained(ForwardPort& port) = 0;

 protected:
  ~ForwardPortObserver() = default;
};

// The rules that both protocols share: settings, counters, which clients are authorized, what is
// dialled, and what the observer is notified of about the target. A member of a ForwardPort, whose
// subclass moves the bytes.
//
//   New      neither hold() nor serve() was called yet
//   Holding  nothing listens at the target: clients wait or are refused
//   Serving  clients are dialled for; the only phase with a dialer
//   Draining no client is accepted any more; the last phase
class PortCore {
 public:
  enum class Phase : std::uint8_t { New, Holding, Serving, Draining };

  /// @param port the one that this is a member of, for the observer
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
  /// Whether clients wait, rather than being refused, while the target does not listen.
  [[nodiscard]] bool holds_clients() const { return settings_.hold > Duration::zero(); }
  [[nodiscard]] Counters& counters() { return counters_; }
  [[nodiscard]] const Counters& counters() const { return counters_; }

  [[nodiscard]] Phase phase() const { return phase_; }
  [[nodiscard]] bool serving() const { return phase_ == Phase::Serving; }
  void hold();
  /// @param dialer borrowed until the next phase @param listeners at least one
  void serve(Dialer& dialer, std::span<const ListenAddress> listeners);
  void drain();

  /// Dials the target for a client of family `client`, within settings().connect_timeout. Must be
  /// serving.
  [[nodiscard]] DialStart dial(Family client, DialHandler& handler);
  /// Counts and logs a client that is not allowed. @return whether it is
  [[nodiscard]] bool authorize(const ClientVerdict& verdict, const Endpoint& client);

  /// Notes a failed dial: whether the target can be dialled at all. The observer is not called.
  void note_dial_failed(const Error& error) { undialable_ = cannot_be_dialled(error); }
  /// The observer may change the phase from within, as from within notify_reached().
  void notify_refused(const Error& error);
  /// A client was connected: notifies if the last dial failed with cannot_be_dialled().
  void notify_reached();
  void notify_drained();

 private:
  RelayServices services_;
  ForwardPortSettings settings_;
  ForwardPort& port_;
  ForwardPortObserver& observer_;
  Counters counters_;
  RefusalLog refusals_;
  Phase phase_ = Phase::New;
  bool undialable_ = false;                         ///< by the outcome of the last dial
  Dialer* dialer_ = nullptr;                        ///< null unless Serving
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
  /// same turn of the loop; clients that connect before it wait.
  [[nodiscard]] virtual std::expected<void, BindFailure> bind(
      std::span<const Address> addresses) = 0;
  /// The target does not listen: clients wait, or are refused where settings.hold is 0. Must not be
  /// called after drain().
  [[nodiscard]] virtual std::expected<void, BindFailure> hold() = 0;
  /// Dials for clients that wait and for clients to come. Must not be called after drain().
  /// @param dialer borrowed until the next hold(), serve() or drain() @param listeners at least one
  [[nodiscard]] virtual std::expected<void, BindFailure> serve(
      Dialer& dialer, std::span<const ListenAddress> listeners) = 0;
  /// Closes the host port at once and refuses clients that wait. on_drained follows when the last
  /// connection has ended, after `limit` at the latest, never from within this call. With
  /// Duration::max() there is no limit; it may be called again with another one.
  virtual void drain(Duration limit) = 0;

  /// Gives up everything that it has, for its successor in a restarted daemon: nothing is closed, and
  /// no client and no target notices. Must not be called from within a call of the observer; the
  /// port must not be used afterwards.
  [[nodiscard]] virtual PortRecord save() = 0;
  /// Goes on with what save() returned, in place of bind(): hold(), serve() or drain() must follow
  /// in the same turn. Clients that cannot be watched any more are reset, see counters().failed.
  virtual void restore(PortRecord record) = 0;

  /// Applies to clients to come; those that wait keep their deadlines.
  virtual void configure(ForwardPortSettings settings) = 0;
  [[nodiscard]] const std::string& id() const { return core_.settings().id; }
  [[nodiscard]] const Counters& counters() const { return core_.counters(); }
  [[nodiscard]] virtual const std::vector<Address>& addresses() const = 0;

 protected:
  PortCore core_;
};

[[nodiscard]] std::unique_ptr<ForwardPort> make_forward_port(Protocol protocol,
                                                             const RelayServices& services,
                                                             const ForwardPortSettings& settings,
                                                             ForwardPortObserver& observer);

}  // namespace portfwd
