// One forward: clients that connect to its listening side are relayed to its target. The base class
// has what all forwards share: the identity, what is shown of it, and the port that relays
// (ForwardPort). There is a subclass for each side on which a forward listens:
//
//   HostForward    listens on the host, dials the listeners of the container
//   InsideForward  listens in the container, dials the host's loopback
//
// A forward determines its own state alone; the ForwardTable decides which forwards there are.
// Owned by the ForwardSet, from create() to its removal. It does not depend on the bus, nor on the
// kind of access to the container.
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

/// Identifies a forward among those that exist. The forwards of one container are adjacent in the
/// order of keys. Only ForwardIndex::rekey() changes the key of a forward.
struct ForwardKey {
  std::string container;  ///< the container's id, or "?NAME" while a request waits for one
  Direction direction = Direction::In;
  Target target;
  friend auto operator<=>(const ForwardKey&, const ForwardKey&) = default;
};

/// The key of a forward while its container is away. No container's id contains '?'.
[[nodiscard]] inline ForwardKey away_key(const ForwardSpec& spec) {
  return {"?" + spec.container, spec.direction, spec.target};
}

class Forward;
class ForwardSet;
class HostForward;
class HostPlaces;

/// The side of a forward that listens on the host.
struct HostSide {
  Protocol listens = Protocol::Tcp;  ///< the kind of its sockets
  HostPlaces& places;
};

class Forward : public Retirable {
 public:
  [[nodiscard]] const ForwardKey& key() const { return key_; }
  [[nodiscard]] Protocol protocol() const { return key_.target.protocol(); }
  [[nodiscard]] Protocol host_port_protocol() const { return key_.target.host_port_protocol(); }
  [[nodiscard]] const std::string& id() const { return info_.id; }
  [[nodiscard]] Origin origin() const { return info_.origin; }
  [[nodiscard]] ForwardState state() const { return info_.state; }
  [[nodiscard]] Port host_port() const { return info_.host_port; }
  [[nodiscard]] const std::string& host_path() const { return info_.host_path; }
  [[nodiscard]] const std::string& container_name() const { return info_.container_name; }
  /// The lasting_names() of its container; while the container is away, its name alone.
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
  [[nodiscard]] const Treatment& treatment() const { return treatment_; }
  /// Null if it does not listen on the host.
  [[nodiscard]] virtual HostForward* on_host() { return nullptr; }
  [[nodiscard]] const HostForward* on_host() const { return const_cast<Forward*>(this)->on_host(); }
  /// Whether clients can connect to it, be they relayed or held.
  [[nodiscard]] virtual bool listening() const = 0;
  /// A copy for observers, with the present counters.
  [[nodiscard]] virtual ForwardInfo info() const = 0;
  /// The present counters; "in" is towards the container.
  [[nodiscard]] virtual Counters counters() const { return port_->counters(); }

  /// Sets what is shown of its container. @return whether anything changed
  bool describe(const Container& container);
  void describe_missing(const std::string& container_name);
  void rekey(ForwardKey key) { key_ = std::move(key); }
  void set_origin(Origin origin) { info_.origin = origin; }
  /// Applies a treatment. Its `bind` and `host_port` only affect the next search for a host port.
  /// @param settings of the ForwardPort, without id and name @return whether anything shown changed
  bool apply_treatment(const Treatment& treatment, const ForwardPortSettings& settings);

  /// Applies the state of its container. @param listeners to dial; none if there are none yet, or
  /// the forward leads to the host @param linger how long a detected forward without listeners
  /// keeps its host port @return whether anything shown changed
  virtual bool update(ContainerAccess& access, const std::vector<Listener>& listeners,
                      Duration linger) = 0;
  /// Prepares for the end of its container: the forward waits for the next one of that name.
  /// @return the port, draining, if the forward no longer listens; null if it listens as before
  [[nodiscard]] virtual std::unique_ptr<ForwardPort> leave_container(Duration linger) = 0;
  /// Ends the forward, which must not be used afterwards. @param drain how long its connections may
  /// go on @return the port, draining
  [[nodiscard]] virtual std::unique_ptr<ForwardPort> withdraw(Duration drain) = 0;
  /// Enters the conflict of a forward that could not bind its place again. @param drain how long
  /// its connections may go on @return the port, draining
  [[nodiscard]] virtual std::unique_ptr<ForwardPort> lose_place(const BindFailure& failure,
                                                                Duration drain) = 0;
  [[nodiscard]] bool owns(const ForwardPort& port) const { return port_.get() == &port; }

 protected:
  /// treat() must be the first call. @param id opaque, never reused @param relay, owner borrowed
  Forward(const RelayServices& relay, ForwardSet& owner, std::string id, ForwardKey key,
          Origin origin);

  /// Configures the port with `settings`, adapted(), and the forward's id and name.
  void configure(const ForwardPortSettings& settings);
  [[nodiscard]] virtual ForwardPortSettings adapt_settings(ForwardPortSettings settings) const {
    return settings;
  }
  /// The URL of the host port, for a browser; "" if it has none.
  [[nodiscard]] virtual std::string url() const { return ""; }
  /// @return whether that is another state
  bool enter_state(ForwardState state) { return std::exchange(info_.state, state) != state; }

  RelayServices relay_;
  ForwardSet& owner_;
  ForwardKey key_;
  ForwardInfo info_;
  std::vector<std::string> names_;
  Treatment treatment_;
  ForwardPortSettings settings_;
  std::unique_ptr<ForwardPort> port_;  ///< null after withdraw()
};

// A forward that listens on a host port and leads to the listeners of a container.
//
//              listeners                  auto: none left            linger over
//   waiting ───────────────────► active ─────────────────► lingering ───────────► removed
//      ▲                          │  ▲                         │
//      └── not auto: none left ───┘  └────── listeners ────────┘
//
//   waiting    the host port is bound, clients are held
//   active     clients are dialled for
//   lingering  as waiting, until the linger timer removes a detected forward
//   conflict   it has no host port: none could be bound, or another program took it between bind(2)
//              and listen(2). Successful bind() ends it, after which the forward is waiting
class HostForward final : public Forward {
 public:
  HostForward(const RelayServices& relay, ForwardSet& owner, std::string id, ForwardKey key,
              Origin origin, HostSide side);

  using Forward::on_host;
  [[nodiscard]] HostPlaces& places() const { return side_.places; }
  [[nodiscard]] HostForward* on_host() override { return this; }
  [[nodiscard]] bool listening() const override { return info_.state != ForwardState::Conflict; }
  [[nodiscard]] ForwardInfo info() const override;
  /// Whether this forward prevents a bind to `wanted`: it has the same port at the same address, or
  /// one of the two addresses is a wildcard.
  [[nodiscard]] bool holds(const Address& wanted) const;

  /// Binds the host port at all addresses, or at none. update() or wait() must follow in the same
  /// turn of the loop. @return which address failed and why
  std::expected<void, BindFailure> bind(const std::vector<IpAddress>& addresses, Port port);
  /// As bind(), with a socket that is bound to a path.
  std::expected<void, BindFailure> adopt(BoundSocket socket);
  [[nodiscard]] std::unique_ptr<ForwardPort> lose_place(const BindFailure& failure,
                                                        Duration drain) override;
  /// The addresses of the last search for a host port.
  [[nodiscard]] const std::vector<IpAddress>& tried_addresses() const { return tried_; }
  /// The first few failures since the last search began.
  [[nodiscard]] const std::vector<BindFailure>& failures() const { return failures_; }
  void note_failure(const BindFailure& failure);
  /// Begins a search for a host port at these addresses.
  void begin_search(std::vector<IpAddress> addresses) {
    tried_ = std::move(addresses);
    failures_.clear();
  }
  /// @param why it has another host port than the user would expect; "" if it has the expected one
  void set_remapped(std::string why) {
    info_.remapped = !why.empty();
    info_.reason = std::move(why);
  }
  /// @param error errno to show; by default the one of a descriptor shortage if there was one, else
  /// of the first failure
  void mark_conflict(std::string reason, std::optional<int> error = {});

  /// With listeners, dials for clients, first for those that are held. Without, see wait().
  bool update(ContainerAccess& access, const std::vector<Listener>& listeners,
              Duration linger) override;
  /// Applies that there is no listener: keeps the host port and holds clients; a detected forward
  /// lingers. @return whether anything shown changed
  bool wait(Duration linger);
  [[nodiscard]] std::unique_ptr<ForwardPort> leave_container(Duration linger) override;
  [[nodiscard]] std::unique_ptr<ForwardPort> withdraw(Duration drain) override;
  /// The listener that is dialled first, or was when there last was one. Must be called only after
  /// update() with a listener.
  [[nodiscard]] const Listener& last_listener() const { return last_; }

  /// Prolongs the linger for one more poll of the listeners. @return false if that was done
  /// already, if `linger` is zero, or if the forward does not linger
  bool linger_for_last_poll();

  /// Notes the outcome of a dial. While the target cannot be dialled at all, an active forward is
  /// shown as waiting, with the reason. @param error nothing: the target was reached
  /// @return whether another state is shown
  bool note_dial(std::optional<Error> error);

 private:
  bool serve(Dialer& dialer, const std::vector<Listener>& listeners);
  bool enter_bound(ForwardState state);
  bool on_port_lost(const BindFailure& failure);
  [[nodiscard]] std::unique_ptr<ForwardPort> make_port();
  [[nodiscard]] ForwardPortSettings adapt_settings(ForwardPortSettings settings) const override;
  std::expected<void, BindFailure> note_bound(std::expected<void, BindFailure> bound);
  [[nodiscard]] std::string url() const override;

  HostSide side_;
  std::vector<IpAddress> tried_;
  std::vector<BindFailure> failures_;
  std::optional<Error> undialable_;  ///< why the target of an active forward cannot be dialled
  std::vector<Listener> listeners_;
  Listener last_;
  Timer linger_;
  bool last_poll_done_ = true;
};

/// The side of a reverse forward that leads to the host.
struct HostTarget {
  Dialer& dialer;                        ///< borrowed
  std::vector<ListenAddress> addresses;  ///< to dial
  Port port = 0;                         ///< 0 if it is a path
  std::string path;                      ///< "" if it is a port
};

// A reverse forward: it listens on a port of the container's own loopback, or on a Unix socket
// inside, and leads to a port of the host's loopback or a Unix socket of the host.
//
//              port opened inside           container gone
//   waiting ───────────────────────► active ──────────────► waiting
//      └───── port cannot be opened ───► conflict, until a retry succeeds or the container is gone
//
// Every client inside may use it: the container controls access to its own loopback and files.
// update() requests the port inside, which is opened later; ForwardSet::on_update_complete() is
// called then.
class InsideForward final : public Forward {
 public:
  InsideForward(const RelayServices& relay, ForwardSet& owner, std::string id, ForwardKey key,
                Origin origin, HostTarget host);

  [[nodiscard]] bool listening() const override { return info_.state == ForwardState::Active; }
  [[nodiscard]] ForwardInfo info() const override;
  [[nodiscard]] Counters counters() const override;

  /// Requests the port inside, unless it is open or requested. Calls on_update_complete() from
  /// within only if the daemon cannot open any port there.
  bool update(ContainerAccess& access, const std::vector<Listener>& listeners,
              Duration linger) override;
  [[nodiscard]] std::unique_ptr<ForwardPort> leave_container(Duration linger) override;
  [[nodiscard]] std::unique_ptr<ForwardPort> withdraw(Duration drain) override;
  [[nodiscard]] std::unique_ptr<ForwardPort> lose_place(const BindFailure& failure,
                                                        Duration drain) override;

 private:
  [[nodiscard]] std::unique_ptr<ForwardPort> release_port(Duration drain);
  void on_inside_port(InsideSockets sockets);
  [[nodiscard]] ForwardPortSettings adapt_settings(ForwardPortSettings settings) const override;
  void enter_conflict(const InsideFailure& failure);
  void set_outcome(ForwardState state, const std::string& reason, int error = 0);
  [[nodiscard]] std::string conflict_text(const InsideFailure& failure) const;
  [[nodiscard]] StreamPort& stream() { return static_cast<StreamPort&>(*port_); }
  [[nodiscard]] std::unique_ptr<ForwardPort> make_port() const;

  HostTarget host_;
  Counters past_counters_;             ///< of the ports before this one
  ContainerAccess* access_ = nullptr;  ///< null while the container is away
  std::unique_ptr<InsidePort>
      inside_;  ///< the port or the request for it; outlives port_'s sockets
};

}  // namespace portfwd
