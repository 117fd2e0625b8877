// One forward: clients that connect to its listen side are relayed to its dial side, whatever is on
// which side. What all forwards have in common is here: identity, what people see of it, and the
// port that relays (ForwardPort). Where it listens is a subclass of its own:
//
//   HostForward    listens on the host, dials what listens in the container
//   InsideForward  listens in the container, dials the host's loopback
//
// A forward decides nothing but its own state. Owned by the ForwardTable. It knows neither the bus
// nor how a container is reached.
#pragma once

#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "access/container_access.h"
#include "config/settings.h"
#include "discover/container.h"
#include "event/event_loop.h"
#include "forward/model.h"
#include "policy/policy.h"
#include "relay/forward_port.h"
#include "relay/stream_port.h"

namespace portfwd {

/// What a forward ties, for life. Those of one container follow each other.
struct ForwardKey {
  std::string container;  ///< the container's id, or "?NAME" while a request waits for one
  Direction direction = Direction::In;
  Target target;
  friend auto operator<=>(const ForwardKey&, const ForwardKey&) = default;
};

/// Of a forward whose container is away; '?' is in no container's id.
[[nodiscard]] inline ForwardKey away_key(const ForwardSpec& spec) {
  return {"?" + spec.container, spec.direction, spec.target};
}

class Forward;
class ForwardSet;
class HostForward;

class Forward : public Retirable {
 public:
  [[nodiscard]] const ForwardKey& key() const { return key_; }
  [[nodiscard]] Protocol protocol() const { return key_.target.protocol(); }
  [[nodiscard]] const std::string& id() const { return info_.id; }
  [[nodiscard]] Origin origin() const { return info_.origin; }
  [[nodiscard]] ForwardState state() const { return info_.state; }
  [[nodiscard]] Port host_port() const { return info_.host_port; }
  [[nodiscard]] const std::string& container_name() const { return info_.container_name; }
  /// What its container is called for longer than it lives (lasting_names()); while it is away its
  /// name alone.
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
  [[nodiscard]] const Treatment& treatment() const { return treatment_; }
  /// Null if it does not listen on the host.
  [[nodiscard]] virtual HostForward* on_host() { return nullptr; }
  [[nodiscard]] const HostForward* on_host() const { return const_cast<Forward*>(this)->on_host(); }
  /// Whether clients can connect to it, to be relayed or to wait.
  [[nodiscard]] virtual bool listening() const = 0;
  /// A copy for outside, counters as of now.
  [[nodiscard]] virtual ForwardInfo info() const = 0;
  /// As of now; "in" is towards the container.
  [[nodiscard]] virtual Counters counters() const { return port_->counters(); }

  /// Whose it is, for people. @return whether anything changed
  bool describe(const Container& container);
  void describe_missing(const std::string& container_name);
  void rekey(ForwardKey key) { key_ = std::move(key); }
  void become(Origin origin) { info_.origin = origin; }
  /// How it is to be, from now on; where it is on the host only says what bind() is to try.
  /// @param settings of its port, without a name @return whether anything changed for people
  bool treat(const Treatment& treatment, const ForwardPortSettings& settings);

  /// Its container is there. @param listeners those that it leads to; none with a forward that is
  /// to wait for them or leads to the host @return whether anything changed for people
  virtual bool update(ContainerAccess& access, const std::vector<Listener>& listeners,
                      Duration linger) = 0;
  /// Its container goes, and the forward waits for the next one of that name.
  /// @return a port that accepts nobody any more and drains; null if it listens as before
  [[nodiscard]] virtual std::unique_ptr<ForwardPort> leave_container(Duration linger) = 0;
  /// Ends it. The forward must not be used afterwards. @param drain so long its live connections
  /// may go on
  /// @return the port, which drains
  [[nodiscard]] virtual std::unique_ptr<ForwardPort> withdraw(Duration drain) = 0;
  [[nodiscard]] bool owns(const ForwardPort& port) const { return port_.get() == &port; }

 protected:
  /// To be treated before anything else. @param id opaque, never used twice; references are
  /// borrowed
  Forward(const RelayServices& relay, ForwardSet& owner, std::string id, ForwardKey key,
          Origin origin);

  /// Gives the port new settings, with the forward's id and name.
  void configure(const ForwardPortSettings& settings);
  [[nodiscard]] virtual ForwardPortSettings adapted(ForwardPortSettings settings) const {
    return settings;
  }
  /// Of the host port, for a browser; "" where there is none.
  [[nodiscard]] virtual std::string url() const { return ""; }
  bool enter(ForwardState state) { return std::exchange(info_.state, state) != state; }

  RelayServices relay_;
  ForwardSet& owner_;
  ForwardKey key_;
  ForwardInfo info_;
  std::vector<std::string> names_;
  Treatment treatment_;
  ForwardPortSettings settings_;
  std::unique_ptr<ForwardPort> port_;  ///< null after withdraw() alone
};

// A forward that listens on a host port and leads to what listens in a container.
//
//              listeners            listeners gone, auto          linger over
//   waiting ─────────────► active ───────────────────► lingering ─────────────► (removed by the
//   table)
//      ▲                    │  ▲                           │
//      └── manual: gone ────┘  └───── listeners again ─────┘
//   conflict: no host port could be had; retried by the table, which gives it one with bind()
class HostForward final : public Forward {
 public:
  HostForward(const RelayServices& relay, ForwardSet& owner, std::string id, ForwardKey key,
              Origin origin);

  using Forward::on_host;
  [[nodiscard]] HostForward* on_host() override { return this; }
  [[nodiscard]] bool listening() const override { return info_.state != ForwardState::Conflict; }
  [[nodiscard]] ForwardInfo info() const override;
  /// Whether it keeps everybody else off this address.
  [[nodiscard]] bool holds(const Address& wanted) const;

  /// Takes the host port on every address, or on none. @return which address failed and why
  std::expected<void, BindFailure> bind(const std::vector<IpAddress>& addresses, Port port);
  /// Those of the last search.
  [[nodiscard]] const std::vector<IpAddress>& tried_addresses() const { return tried_; }
  /// What bind() failed with since the search began; the first few.
  [[nodiscard]] const std::vector<BindFailure>& failures() const { return failures_; }
  void note_failure(const BindFailure& failure);
  /// A search for a host port begins, at these addresses.
  void begin_search(std::vector<IpAddress> addresses) {
    tried_ = std::move(addresses);
    failures_.clear();
  }
  /// @param why it has another host port than a person would expect; "" when it has not
  void set_remapped(std::string why) {
    info_.remapped = !why.empty();
    info_.reason = std::move(why);
  }
  /// @param error errno: of what failed by default
  void mark_conflict(std::string reason, std::optional<int> error = {});

  /// Listeners: clients are dialled for, held ones at once. None: see wait().
  bool update(ContainerAccess& access, const std::vector<Listener>& listeners,
              Duration linger) override;
  /// No listener (any more): the host port is held, clients wait. @return whether anything changed
  bool wait(Duration linger);
  [[nodiscard]] std::unique_ptr<ForwardPort> leave_container(Duration linger) override;
  [[nodiscard]] std::unique_ptr<ForwardPort> withdraw(Duration drain) override;
  /// The one dialled first; with no listener, who that was. Only after update() with one.
  [[nodiscard]] const Listener& last_listener() const { return last_; }

  /// Lingers for one more look at the listeners. @return false when that was done already, or there
  /// is no host port or no linger to keep it for
  bool linger_for_a_look();

  /// @param error of the last attempt to dial the target; nothing: it was reached. A target that
  /// cannot be dialled at all shows as waiting, with the reason. @return whether anything changed
  bool note_dial(std::optional<Error> error);

 private:
  bool serve(Dialer& dialer, const std::vector<Listener>& listeners);
  bool enter_bound(ForwardState state);
  bool lose_port(const BindFailure& failure);
  [[nodiscard]] std::unique_ptr<ForwardPort> make_port();
  [[nodiscard]] std::string url() const override;

  std::vector<IpAddress> tried_;
  std::vector<BindFailure> failures_;
  std::optional<Error> undialable_;  ///< why the target cannot be dialled, while it is active
  std::vector<Listener> listeners_;
  Listener last_;
  Timer linger_;
  bool looked_again_ = true;
};

// A reverse forward: it listens on a port of the container's own loopback and leads to a port of
// the host's.
//
//              the container is there, and so is the port        it is gone
//   waiting ──────────────────────────────────────────► active ────────────► waiting
//      └─────── the port cannot be had ──► conflict; retried by the table
//
// Who connects inside is the container's business, so no client is authorized. The port inside is
// asked for by update() and comes later: on_listening_settled() tells the table.
class InsideForward final : public Forward {
 public:
  /// @param host dials the host's loopback; borrowed @param host_port that it leads to
  InsideForward(const RelayServices& relay, ForwardSet& owner, std::string id, ForwardKey key,
                Origin origin, Dialer& host, Port host_port);

  [[nodiscard]] bool listening() const override { return info_.state == ForwardState::Active; }
  [[nodiscard]] ForwardInfo info() const override;
  [[nodiscard]] Counters counters() const override;

  /// Asks for the port inside, unless it is there or asked for. Within this call it is settled only
  /// if no port of ours can be had there at all.
  bool update(ContainerAccess& access, const std::vector<Listener>& listeners,
              Duration linger) override;
  [[nodiscard]] std::unique_ptr<ForwardPort> leave_container(Duration linger) override;
  [[nodiscard]] std::unique_ptr<ForwardPort> withdraw(Duration drain) override;

 private:
  void on_inside_port(Result<std::vector<BoundSocket>> sockets);
  [[nodiscard]] ForwardPortSettings adapted(ForwardPortSettings settings) const override;
  void fail(const Error& error);
  void settle(ForwardState state, const std::string& reason, int error = 0);
  [[nodiscard]] std::string why_not(const Error& error) const;
  [[nodiscard]] StreamPort& stream() { return static_cast<StreamPort&>(*port_); }
  [[nodiscard]] std::unique_ptr<ForwardPort> make_port() const;

  Dialer& host_;
  Counters past_;                       ///< of ports before this one
  ContainerAccess* access_ = nullptr;   ///< null while the container is away
  std::unique_ptr<InsidePort> inside_;  ///< outlives the sockets of port_
};

}  // namespace portfwd
