// Where forwards are on the host: which addresses and which host port each gets, who has one that
// cannot be had, and what is remembered for the next time. Part of the ForwardSet; it knows
// containers only by the names that their forwards have.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "config/settings.h"
#include "forward/forward.h"
#include "kernel/procfs.h"
#include "kernel/sock_diag.h"
#include "net/address.h"
#include "state/container_memory.h"

namespace portfwd {

// Which host port a forward gets: the order in which ports are tried, as a pure sequence. The bind
// itself is the reservation, so nothing here asks whether a port is free.
/// The first that other machines can reach; null when all are loopback addresses.
[[nodiscard]] const IpAddress* remote_address(std::span<const IpAddress> addresses);

/// The host ports worth trying for one container port, best first, each once.
class HostPortPlan {
 public:
  struct Wish {
    Port container_port = 0;
    std::optional<Port> sticky;       ///< what it had before
    std::optional<Port> asked;        ///< by a person, who needs not heed `avoid`
    bool only_preferred = false;      ///< no other than preferred()
    Port first_unprivileged = 1024;   ///< net.ipv4.ip_unprivileged_port_start
    std::uint32_t fallback_from = 0;  ///< those of the range below it are known to be taken
  };
  /// @param settings borrowed while the plan is used
  HostPortPlan(const Settings& settings, const Wish& wish);

  /// The next one to try; nothing when the fall-back range is used up.
  [[nodiscard]] std::optional<Port> next();
  /// Where next() goes on in the fall-back range: one more than what it gave from there.
  [[nodiscard]] std::uint32_t fallback_next() const { return fallback_; }
  /// The one that a person would expect: what was asked for, else the same number, or 8000 + N for
  /// a privileged one.
  [[nodiscard]] Port preferred() const { return preferred_; }

 private:
  void offer(Port port);
  [[nodiscard]] bool allowed(Port port) const;
  [[nodiscard]] bool offered(Port port) const;

  const Settings& settings_;
  Wish wish_;
  Port preferred_;
  std::vector<Port> first_;  ///< what comes before the range; each once
  std::size_t next_ = 0;     ///< of first_
  std::uint32_t fallback_;   ///< the next of the range; wider than Port so that 65535 can be passed
};

/// Finds out which program has a host port that could not be bound.
class PortHolder {
 public:
  /// @return for people, such as "python3 (pid 42)"; "" when it cannot be known
  [[nodiscard]] virtual std::string holder_of(Protocol protocol,
                                              const Endpoint& endpoint) const = 0;

 protected:
  ~PortHolder() = default;
};

/// The host ports that our own forwards hold, so that the search for a free one skips them without
/// a system call. Forwards are borrowed while they hold a port.
class HeldPorts {
 public:
  void add(const HostForward& forward) { held_.insert(key_of(forward)); }
  void remove(const HostForward& forward) { held_.erase(key_of(forward)); }

  /// The forward that keeps everybody else off the endpoint; null when none of ours does.
  [[nodiscard]] const HostForward* holder(Protocol protocol, const Endpoint& endpoint) const {
    for (auto it = held_.lower_bound({protocol, endpoint.port, nullptr}); it != held_.end(); ++it) {
      const auto& [its_protocol, port, forward] = *it;
      if (its_protocol != protocol || port != endpoint.port) break;
      if (forward->holds(endpoint)) return forward;
    }
    return nullptr;
  }
  /// Whether any of ours has this host port, at whatever address.
  [[nodiscard]] bool has(Protocol protocol, Port port) const {
    const auto it = held_.lower_bound({protocol, port, nullptr});
    return it != held_.end() && std::get<0>(*it) == protocol && std::get<1>(*it) == port;
  }

 private:
  using Key = std::tuple<Protocol, Port, const HostForward*>;
  static Key key_of(const HostForward& forward) {
    return {forward.protocol(), forward.host_port(), &forward};
  }

  std::set<Key> held_;
};

/// Where the search for a free port of the fall-back range goes on, for each protocol and set of
/// host addresses: the ports before it were taken when they were last tried. A port that one of our
/// own forwards gives up takes the cursor back; so that ports which others give up are found too,
/// the search begins again every kRewind.
class FallbackCursors {
 public:
  static constexpr Duration kRewind = std::chrono::seconds(10);
  using Place = std::pair<Protocol, std::vector<IpAddress>>;

  /// The first port of `range` worth trying; range.last + 1 when none is.
  [[nodiscard]] std::uint32_t position(const Place& place, const PortRange& range, TimePoint now) {
    Cursor& cursor = cursors_[place];
    if (cursor.rewound + kRewind <= now || cursor.next < range.first) {
      cursor = {range.first, now};
    }
    return cursor.next;
  }
  /// All ports before `next` are taken.
  void advance(const Place& place, std::uint32_t next) {
    std::uint32_t& at = cursors_[place].next;
    at = std::max(at, next);
  }
  void port_freed(Port port, const PortRange& range) {
    if (port < range.first || port > range.last) return;
    for (auto& [place, cursor] : cursors_) cursor.next = std::min<std::uint32_t>(cursor.next, port);
  }
  /// Other settings: nothing is known any more.
  void clear() { cursors_.clear(); }

 private:
  struct Cursor {
    std::uint32_t next = 0;
    TimePoint rewound = TimePoint::min();
  };
  std::map<Place, Cursor> cursors_;
};

class HostPorts {
 public:
  enum class Outcome : std::uint8_t {
    Bound,
    Unfinished,  ///< the turn is over: the forward is in conflict, and the search goes
                 ///< on
    Conflict,    ///< no port could be had; the forward says why
  };

  /// @param settings, holders borrowed @param on_remembered_changed what save() gives has changed
  HostPorts(const Settings& settings, const PortHolder& holders,
            std::function<void()> on_remembered_changed)
      : settings_(settings),
        holders_(holders),
        on_remembered_changed_(std::move(on_remembered_changed)) {}

  void restore(const State& state);
  void save(State& state) const;
  /// The settings are others: a port that was taken may be allowed or free now.
  void on_settings_changed() { cursors_.clear(); }

  /// The host addresses of a container's forwards: what a rule or a person says, else one of its
  /// own or the same for all. @param container its name
  [[nodiscard]] std::vector<IpAddress> addresses_for(const std::string& container,
                                                     const std::optional<Bind>& said);
  /// A turn begins in which so many ports may be tried.
  void begin_turn(unsigned tries) { tries_left_ = tries; }
  [[nodiscard]] bool turn_over() const { return tries_left_ == 0; }
  /// Searches a host port for a forward and binds it.
  [[nodiscard]] Outcome bind(HostForward& forward, TimePoint now);
  /// The forward gives up its port.
  void release(const HostForward& forward);

  /// Whether a forward is elsewhere than it should be by its treatment. One that was asked for
  /// stays, unless it is for other machines and may no longer be.
  [[nodiscard]] bool misplaced(const Forward& any, const Treatment& treatment);
  /// Whether a detected forward had another host port under the names of its container, which is
  /// free of ours now: its container was found before its engine said what it is called.
  [[nodiscard]] bool remembered_elsewhere(const HostForward& forward) const;
  /// Under the lasting names of its container.
  void remember(const HostForward& forward);

  /// For people: one of our own forwards, a program that can be named, or just taken.
  [[nodiscard]] std::string taken_sentence(const BindFailure& failure) const;

 private:
  [[nodiscard]] bool remembers() const;
  [[nodiscard]] std::expected<void, BindFailure> try_port(HostForward& forward,
                                                          const std::vector<IpAddress>& addresses,
                                                          Port port);

  static constexpr unsigned kSkipsPerBind = 16;  ///< ports of ours that cost as much as one bind

  const Settings& settings_;
  const PortHolder& holders_;
  std::function<void()> on_remembered_changed_;
  StickyPorts sticky_;
  ContainerAddresses addresses_;
  HeldPorts held_;
  FallbackCursors cursors_;
  unsigned skipped_ = 0;     ///< ports of our own that searches met
  unsigned tries_left_ = 0;  ///< in this turn
};

/// Names the program that holds a host port, for the sentence that tells a person why a forward got
/// another one. Asked only after a bind has failed; what one look at the listeners and programs of
/// the host shows serves for all questions of the next second. Owned by main.
class HostPortHolder final : public PortHolder {
 public:
  /// @param proc, clock borrowed
  HostPortHolder(const ProcDir& proc, const Clock& clock) : proc_(proc), clock_(clock) {}

  /// "nginx", or "a program of uid 33" when its descriptors can't be seen; "" when nobody listens
  /// there (a connection may hold a port too).
  [[nodiscard]] std::string holder_of(Protocol protocol, const Endpoint& endpoint) const override;

 private:
  struct Seen {
    TimePoint at = TimePoint::min();
    std::vector<DiagSocket> listeners;
    std::map<std::uint64_t, pid_t> owners;  ///< by the socket's inode
  };
  [[nodiscard]] const Seen& look(Protocol protocol) const;

  const ProcDir& proc_;
  const Clock& clock_;
  mutable std::array<Seen, 2> seen_;  ///< by protocol
};

}  // namespace portfwd
