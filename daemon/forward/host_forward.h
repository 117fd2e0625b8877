// A forward that listens on a host port and leads to what listens in a container.
//
//              listeners            listeners gone, auto          linger over
//   waiting ─────────────► active ───────────────────► lingering ─────────────► (removed by the
//   table)
//      ▲                    │  ▲                           │
//      └── manual: gone ────┘  └───── listeners again ─────┘
//   conflict: no host port could be had; retried by the table, which gives it one with bind()
#pragma once

#include <expected>

#include "forward/forward.h"

namespace portfwd {

class HostForward final : public Forward {
 public:
  HostForward(const RelayServices& relay, ForwardObserver& observer, std::string id, ForwardKey key,
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

}  // namespace portfwd
