// Host addresses and host ports of forwards: which ones each forward gets, which program holds a
// port that cannot be bound, and which ports are remembered for the next time. Part of the
// ForwardSet. It identifies containers only by the names that their forwards have.
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
#include "forward/host_places.h"
#include "kernel/procfs.h"
#include "kernel/sock_diag.h"
#include "net/address.h"
#include "state/container_memory.h"

namespace portfwd {

/// The first address that other machines can reach; null if all are loopback addresses.
[[nodiscard]] const IpAddress* remote_address(std::span<const IpAddress> addresses);

/// The host ports to try for one container port, best first, each once. A pure sequence: bind(2)
/// itself is the reservation, so nothing here checks whether a port is free.
class HostPortPlan {
 public:
  struct Preferences {
    Port container_port = 0;
    std::optional<Port> sticky;       ///< the port that it had before
    std::optional<Port> asked;        ///< by a request, rule or metadata; tried even if in `avoid`
    bool only_preferred = false;      ///< try no other port than preferred()
    Port first_unprivileged = 1024;   ///< net.ipv4.ip_unprivileged_port_start
    std::uint32_t fallback_from = 0;  ///< ports of the range below it are known to be taken
  };
  /// @param settings borrowed while the plan is used
  HostPortPlan(const Settings& settings, const Preferences& preferences);

  /// The next port to try; nothing when the fall-back range is used up.
  [[nodiscard]] std::optional<Port> next();
  /// The position of next() in the fall-back range: one more than the last port from it.
  [[nodiscard]] std::uint32_t fallback_next() const { return fallback_; }
  /// The port that the user would expect: the requested one, else the same number as inside, or
  /// 8000 + N for a privileged N.
  [[nodiscard]] Port preferred() const { return preferred_; }

 private:
  void offer(Port port);
  [[nodiscard]] bool allowed(Port port) const;
  [[nodiscard]] bool offered(Port port) const;

  const Settings& settings_;
  Preferences preferences_;
  Port preferred_;
  std::vector<Port> first_;  ///< ports to try before the range; each once
  std::size_t next_ = 0;     ///< index into first_
  std::uint32_t fallback_;   ///< next port of the range; wider than Port, to pass 65535
};

/// Looks up which program holds a host port that could not be bound.
class PortHolder {
 public:
  /// @return for the user, such as "python3"; "" if it cannot be known
  [[nodiscard]] virtual std::string holder_of(Protocol protocol,
                                              const Endpoint& endpoint) const = 0;

 protected:
  ~PortHolder() = default;
};

/// The host ports that forwards of the daemon hold, so that the search for a free port skips them
/// without a system call. Forwards are borrowed while they hold a port.
class HeldPorts {
 public:
  void add(const HostForward& forward) { held_.insert(key_of(forward)); }
  void remove(const HostForward& forward) { held_.erase(key_of(forward)); }

  /// The forward that occupies the endpoint; null if there is none.
  [[nodiscard]] const HostForward* holder(Protocol protocol, const Endpoint& endpoint) const {
    for (auto it = held_.lower_bound({protocol, endpoint.port, nullptr}); it != held_.end(); ++it) {
      const auto& [its_protocol, port, forward] = *it;
      if (its_protocol != protocol || port != endpoint.port) break;
      if (forward->holds(endpoint)) return forward;
    }
    return nullptr;
  }
  /// Whether any forward has this host port, at any address.
  [[nodiscard]] bool has(Protocol protocol, Port port) const {
    const auto it = held_.lower_bound({protocol, port, nullptr});
    return it != held_.end() && std::get<0>(*it) == protocol && std::get<1>(*it) == port;
  }

 private:
  using Key = std::tuple<Protocol, Port, const HostForward*>;
  static Key key_of(const HostForward& forward) {
    return {forward.host_port_protocol(), forward.host_port(), &forward};
  }

  std::set<Key> held_;
};

/// Cursors into the fall-back range, one for each protocol and set of host addresses: the ports
/// below a cursor were taken when they were last tried. When a forward releases a port, the cursors
/// move back to it. Every kRewind the search restarts from the first port, to find the ports that
/// other programs have released.
class FallbackCursors {
 public:
  static constexpr Duration kRewind = std::chrono::seconds(10);
  using Place = std::pair<Protocol, std::vector<IpAddress>>;

  /// The first port of `range` to try; range.last + 1 if all are taken.
  [[nodiscard]] std::uint32_t position(const Place& place, const PortRange& range, TimePoint now) {
    Cursor& cursor = cursors_[place];
    if (cursor.rewound + kRewind <= now || cursor.next < range.first) {
      cursor = {range.first, now};
    }
    return cursor.next;
  }
  /// Notes that all ports below `next` are taken.
  void advance(const Place& place, std::uint32_t next) {
    std::uint32_t& at = cursors_[place].next;
    at = std::max(at, next);
  }
  void port_freed(Port port, const PortRange& range) {
    if (port < range.first || port > range.last) return;
    for (auto& [place, cursor] : cursors_) cursor.next = std::min<std::uint32_t>(cursor.next, port);
  }
  /// Resets all cursors, for changed settings.
  void clear() { cursors_.clear(); }

 private:
  struct Cursor {
    std::uint32_t next = 0;
    TimePoint rewound = TimePoint::min();
  };
  std::map<Place, Cursor> cursors_;
};

class HostPorts final : public HostPlaces {
 public:
  /// @param settings, holders borrowed @param on_remembered_changed there is something new to save
  HostPorts(const Settings& settings, const PortHolder& holders,
            std::function<void()> on_remembered_changed)
      : settings_(settings),
        holders_(holders),
        on_remembered_changed_(std::move(on_remembered_changed)) {}

  void restore(const State& state);
  void save(State& state) const;
  /// Must be called after the settings changed: other ports may be allowed now.
  void on_settings_changed() { cursors_.clear(); }

  /// The host addresses for a container's forwards: those of a rule or request, else one of its own
  /// (allocation = "per-container") or those of [host] bind.
  /// @param container its name @param said by a rule or request
  [[nodiscard]] std::vector<IpAddress> addresses_for(const std::string& container,
                                                     const std::optional<Bind>& requested_bind);
  /// Begins a turn in which `tries` ports may be tried.
  void begin_turn(unsigned tries) { tries_left_ = tries; }
  [[nodiscard]] bool turn_over() const { return tries_left_ == 0; }
  /// Unfinished: the tries of this turn are used up.
  [[nodiscard]] Outcome bind(HostForward& forward, TimePoint now) override;
  void release(const HostForward& forward) override;
  /// By host addresses and host port.
  [[nodiscard]] bool misplaced(const HostForward& forward, const Treatment& treatment) override;
  [[nodiscard]] bool remembered_elsewhere(const HostForward& forward) const override;
  void remember(const HostForward& forward) override;
  [[nodiscard]] bool at_home(const HostForward& forward, const ForwardSpec& spec) override;

  /// For the user: why a bind failed, and which forward or program holds the port, if known.
  [[nodiscard]] std::string taken_sentence(const BindFailure& failure) const;

 private:
  [[nodiscard]] bool remembers() const;
  [[nodiscard]] std::optional<Port> remembered_port(const HostForward& forward) const;
  [[nodiscard]] std::expected<void, BindFailure> try_port(HostForward& forward,
                                                          const std::vector<IpAddress>& addresses,
                                                          Port port);

  static constexpr unsigned kSkipsPerBind = 16;  ///< ports skipped at the cost of one bind

  const Settings& settings_;
  const PortHolder& holders_;
  std::function<void()> on_remembered_changed_;
  StickyPorts sticky_;
  ContainerAddresses addresses_;
  HeldPorts held_;
  FallbackCursors cursors_;
  unsigned skipped_ = 0;     ///< ports of our forwards that searches met
  unsigned tries_left_ = 0;  ///< in this turn
};

/// The program that holds a host port, to explain to the user why a forward has another one. Used
/// only after a bind has failed. One scan of the host's listeners and programs is cached for a
/// second. Owned by main.
class HostPortHolder final : public PortHolder {
 public:
  /// @param proc, clock borrowed
  HostPortHolder(const ProcDir& proc, const Clock& clock) : proc_(proc), clock_(clock) {}

  /// "nginx", or "a program of uid 33" if its descriptors cannot be read; "" if nothing listens
  /// there, as a connection may hold a port too.
  [[nodiscard]] std::string holder_of(Protocol protocol, const Endpoint& endpoint) const override;

 private:
  struct Seen {
    TimePoint at = TimePoint::min();
    std::vector<DiagSocket> listeners;
    std::map<std::uint64_t, pid_t> owners;  ///< by inode of the socket
  };
  [[nodiscard]] const Seen& scan_host(Protocol protocol) const;

  const ProcDir& proc_;
  const Clock& clock_;
  mutable std::array<Seen, 2> seen_;  ///< by protocol
};

}  // namespace portfwd
