// One forward: the tie between a port inside a container and a port on the host's loopback. It owns
// the host side (ForwardPort) and decides nothing but its own state:
//
//              listeners            listeners gone, auto          linger over
//   waiting ─────────────► active ───────────────────► lingering ─────────────► (removed by the
//   table)
//      ▲                    │  ▲                           │
//      └── manual: gone ────┘  └───── listeners again ─────┘
//   conflict: no host port could be had; tried again by the table
//
// Owned by the ForwardTable. It knows neither the bus nor where listeners come from.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/settings.h"
#include "discover/container.h"
#include "event/event_loop.h"
#include "forward/model.h"
#include "forward/policy.h"
#include "relay/dialer.h"
#include "relay/forward_port.h"

namespace portfwd {

/// What a forward ties, for life.
struct ForwardKey {
  std::string container;  ///< the container's id, or "?NAME" while a manual forward waits for one
  Target target;
  friend auto operator<=>(const ForwardKey&, const ForwardKey&) = default;
};

/// Of a forward whose container is away; '?' is in no container's id.
[[nodiscard]] inline ForwardKey away_key(std::string_view container_name, Target target) {
  return {"?" + std::string(container_name), std::move(target)};
}

class Forward;

/// The table, to which a forward and its host side report. Outlives both: a host port that still
/// drains lives longer than its forward.
class ForwardObserver : public ForwardPortObserver {
 public:
  virtual void on_linger_over(Forward& forward) = 0;

 protected:
  ~ForwardObserver() = default;
};

class Forward final : public Retirable {
 public:
  /// To be treated before anything else. @param id opaque, never used twice; references are
  /// borrowed
  Forward(const RelayServices& relay, ForwardObserver& observer, std::string id, ForwardKey key,
          Origin origin);

  [[nodiscard]] const ForwardKey& key() const { return key_; }
  [[nodiscard]] Protocol protocol() const { return key_.target.protocol(); }
  [[nodiscard]] const std::string& id() const { return info_.id; }
  [[nodiscard]] Origin origin() const { return info_.origin; }
  [[nodiscard]] ForwardState state() const { return info_.state; }
  [[nodiscard]] Port host_port() const { return info_.host_port; }
  /// Whether it keeps everybody else off this endpoint.
  [[nodiscard]] bool holds(const Address& address) const;
  [[nodiscard]] const std::string& container_name() const { return info_.container_name; }
  /// A copy for outside, counters as of now.
  [[nodiscard]] ForwardInfo info() const;

  /// Whose it is, for people. @return whether anything changed
  bool describe(const Container& container);
  void describe_missing(const std::string& container_name);
  void rekey(ForwardKey key) { key_ = std::move(key); }
  /// How it is to be, from now on; where it is on the host only says what bind() is to try.
  /// @param settings of its host side, without a name @return whether anything changed for people
  bool treat(const Treatment& treatment, const ForwardPortSettings& settings);
  [[nodiscard]] const Treatment& treatment() const { return treatment_; }
  /// @param why it has another host port than a person would expect; "" when it has not
  void set_remapped(std::string why) {
    info_.remapped = !why.empty();
    info_.reason = std::move(why);
  }
  void become(Origin origin) { info_.origin = origin; }

  /// Takes the host port on every address, or on none. @return which address failed and why
  std::expected<void, BindFailure> bind(const std::vector<IpAddress>& addresses, Port port);
  /// Those of the last search.
  [[nodiscard]] const std::vector<IpAddress>& tried_addresses() const { return tried_; }
  /// What bind() failed with since they were forgotten; the first few.
  [[nodiscard]] const std::vector<BindFailure>& failures() const { return failures_; }
  void note_failure(const BindFailure& failure);
  /// A search for a host port begins, at these addresses.
  void begin_search(std::vector<IpAddress> addresses) {
    tried_ = std::move(addresses);
    failures_.clear();
  }
  /// @param error errno: of what failed by default
  void mark_conflict(std::string reason, std::optional<int> error = {});

  /// Listeners are there: clients are dialled, held ones at once. @return whether anything changed
  bool serve(Dialer& dialer, const std::vector<Listener>& listeners);
  /// The one dialled first; with no listener, who that was. Only after serve().
  [[nodiscard]] const Listener& last_listener() const { return last_; }
  /// No listener (any more): the host port is held, clients wait. @return whether anything changed
  bool wait(Duration linger);

  /// Lingers for one more look at the listeners. @return false when that was done already, or there
  /// is no host port or no linger to keep it for
  bool linger_for_a_look();

  /// @param error of the last attempt to dial the target; nothing: it was reached. A target that
  /// cannot be dialled at all shows as waiting, with the reason. @return whether anything changed
  bool note_dial(std::optional<Error> error);

  /// Ends it: whoever takes the port object drains it. The forward is good for nothing afterwards.
  [[nodiscard]] std::unique_ptr<ForwardPort> withdraw();
  [[nodiscard]] bool owns(const ForwardPort& port) const { return port_.get() == &port; }

 private:
  bool enter(ForwardState state);
  bool lose_port(const BindFailure& failure);
  void configure(const ForwardPortSettings& settings);
  [[nodiscard]] std::unique_ptr<ForwardPort> make_port();
  [[nodiscard]] std::string url() const;

  RelayServices relay_;
  ForwardObserver& observer_;
  ForwardKey key_;
  ForwardInfo info_;
  Treatment treatment_;
  std::vector<IpAddress> tried_;
  std::vector<BindFailure> failures_;
  ForwardPortSettings settings_;
  std::unique_ptr<ForwardPort> port_;
  std::optional<Error> undialable_;  ///< why the target can't be dialled, while it is active
  std::vector<Listener> listeners_;
  Listener last_;
  Timer linger_;
  bool looked_again_ = true;
};

}  // namespace portfwd
