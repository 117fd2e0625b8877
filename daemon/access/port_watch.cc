
#include "access/port_watch.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <utility>

#include "base/log.h"

namespace portfwd {

CloseWatch::CloseWatch(EventLoop& loop, CloseRateLimit& rate_limit, UniqueFd socket,
                       std::move_only_function<void()> on_closes)
    : loop_(loop),
      rate_limit_(rate_limit),
      on_closes_(std::move(on_closes)),
      events_(std::move(socket)),
      source_(loop, events_.fd(), *this) {}

bool CloseWatch::covered(std::span<const Port> ports) const {
  return std::ranges::all_of(ports, [this](Port port) { return events_.passes(port); });
}

/// A surplus port in the filter costs no more than a wake-up, so the filter is replaced only when a
/// port is missing.
void CloseWatch::set_ports(std::span<const Port> ports, bool udp) {
  assert(std::ranges::is_sorted(ports));
  if (!covered(ports)) {
    if (const auto set = events_.filter(ports); !set) {
      log::debug("watch: {}; closes are found by polling", set.error().text());
      refused_ = true;
    }
  }
  wanted_ = !ports.empty();
  if (std::exchange(udp_, udp) != udp && events_.joined()) {
    source_.disarm();
    events_.leave();  // to join other groups below
  }
  update_membership();
}

void CloseWatch::update_membership() {
  const bool join = wanted_ && !rate_limit_.exceeded(loop_.now()) && !refused_;
  if (join == events_.joined()) return;
  changed_ = true;
  if (!join) {
    source_.disarm();
    return events_.leave();
  }
  if (const auto joined = events_.join(udp_); !joined) {
    log::debug("watch: {}; closes are found by polling", joined.error().text());
    refused_ = true;
    return;
  }
  resume();
}

void CloseWatch::resume() {
  assert(events_.joined());
  if (const auto armed = source_.watch(EPOLLIN); !armed) {
    log::debug("watch: {}; closes are found by polling", armed.error().text());
  }
}

bool CloseWatch::refresh_membership() {
  update_membership();
  return std::exchange(changed_, false);
}

DestroyEvents::Batch CloseWatch::read_events() {
  const DestroyEvents::Batch batch = events_.drain();
  count_closes(batch.closes);
  return batch;
}

void CloseWatch::count_closes(std::uint64_t closes) {
  const TimePoint now = loop_.now();
  if (now >= window_ends_) {
    window_ends_ = now + kWindow;
    closes_ = 0;
  }
  closes_ += closes;
  if (closes_ <= kMostCloses) return;
  log::debug("watch: too many sockets close; closes are found by polling");
  rate_limit_.exceed(now);
  update_membership();
}

namespace {

using namespace std::chrono_literals;

constexpr Duration kFirstBackoff = 100ms;
constexpr Duration kLastBackoff = 30s;
constexpr Duration kLastBackoffInShortage = 1s;

/// Whether the error is a shortage. A shortage ends by itself, and the next attempt should follow
/// soon then.
bool is_shortage(const Error& error) {
  switch (error.code) {
    case EAGAIN:
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      return true;
    default:
      return false;
  }
}

Listener to_listener(Protocol protocol, const DiagSocket& socket) {
  Listener out;
  out.protocol = protocol;
  out.local = socket.local;
  out.v6only = socket.v6only;
  out.cookie = socket.cookie;
  out.uid = socket.uid;
  out.inode = socket.inode;
  out.cgroup_id = socket.cgroup_id;
  return out;
}

Listener to_listener(const DiagUnixSocket& socket) {
  Listener out;
  out.protocol = Protocol::Unix;
  out.local = socket.name;
  out.cookie = socket.cookie;
  out.uid = socket.uid;
  out.inode = socket.inode;
  out.type = socket.type;
  out.backlog = socket.backlog;
  out.device = socket.device;
  out.file_inode = socket.file_inode;
  return out;
}

std::vector<Port> ports_of(const std::vector<Listener>& listeners) {
  std::vector<Port> ports;
  for (const Listener& l : listeners) {
    if (const Endpoint* at = l.local.endpoint()) ports.push_back(at->port);
  }
  std::ranges::sort(ports);
  ports.erase(std::ranges::unique(ports).begin(), ports.end());
  return ports;
}

/// Whether a listener on a port was added. Both lists are ordered.
bool has_new_port(const std::vector<Listener>& before, const std::vector<Listener>& now) {
  return std::ranges::any_of(now, [&](const Listener& l) {
    return l.ip_address() != nullptr && !std::ranges::binary_search(before, l);
  });
}

template <class Socket>
std::vector<std::uint64_t> cookies_of(const std::vector<Socket>& sockets) {
  std::vector<std::uint64_t> cookies;
  std::ranges::transform(sockets, std::back_inserter(cookies), &Socket::cookie);
  std::ranges::sort(cookies);
  return cookies;
}

std::optional<ProcNetUnix> open_unix_table(pid_t pid, std::uint64_t netns) {
  if (pid == 0) return std::nullopt;
  auto table = ProcNetUnix::open(pid, netns);
  return table ? std::optional(std::move(*table)) : std::nullopt;
}

std::optional<Sockstat> open_counter(pid_t pid, std::uint64_t netns) {
  if (pid == 0) return std::nullopt;
  auto counter = Sockstat::open(pid, netns);
  if (counter) return std::move(*counter);
  log::debug("watch: no socket counters ({}) for pid {}; every poll is a dump",
             counter.error().text(), pid);
  return std::nullopt;
}

}  // namespace

// --- source --------------------------------------------------------------------------------------

bool ListenerFilter::accepts(const Listener& listener) const {
  if (std::ranges::count(ignored, listener.inode) != 0) return false;
  if (listener.protocol != Protocol::Udp) return true;
  return udp.covers(listener.local.ip().port) && !listener.local.ip().address.is_multicast();
}

ListenerSource::ListenerSource(const DiagModules& modules, pid_t pid, std::uint64_t netns)
    : modules_(modules), pid_(pid), netns_(netns), unix_(open_unix_table(pid, netns)) {}

Result<std::vector<Listener>> ListenerSource::read(ListenerKinds kinds,
                                                   const ListenerFilter& filter,
                                                   const std::vector<Listener>& known) {
  assert(exists() && kinds.any());
  std::vector<Listener> out;
  std::ranges::copy_if(known, std::back_inserter(out),
                       [&](const Listener& l) { return !kinds.include(l); });
  if (kinds.ports) {
    if (auto ports = add_ports(filter, known, out); !ports) return std::unexpected(ports.error());
  }
  if (kinds.unix_sockets) {
    if (auto added = add_unix_sockets(filter, out); !added) return std::unexpected(added.error());
  }
  return out;
}

Result<void> ListenerSource::add_ports(const ListenerFilter& filter,
                                       const std::vector<Listener>& known,
                                       std::vector<Listener>& out) {
  auto done = add_listeners(Protocol::Tcp, filter, out);
  if (done && filter.udp.wanted) done = add_listeners(Protocol::Udp, filter, out);
  if (done && filter.udp.wanted) done = add_connected(known, out);
  return done;
}

/// Reads from sock_diag, or from /proc where that is the source or unix_diag is missing.
Result<void> ListenerSource::add_unix_sockets(const ListenerFilter& filter,
                                              std::vector<Listener>& out) {
  auto* const diag = std::get_if<SockDiag>(&tcp_);
  const bool by_diag = diag != nullptr && modules_.of(Protocol::Unix);
  if (!by_diag && !unix_) return {};  // nothing shows them
  const auto found = by_diag ? diag->unix_listeners() : unix_->listeners();
  if (!found) return std::unexpected(found.error());
  for (const DiagUnixSocket& socket : *found) {
    Listener listener = to_listener(socket);
    if (filter.accepts(listener)) out.push_back(std::move(listener));
  }
  return {};
}

bool ListenerSource::has_unix_listener(const ListenerFilter& filter) const {
  if (!unix_) return true;  // perhaps
  const auto found = unix_->listeners();
  return !found || std::ranges::any_of(*found, [&](const DiagUnixSocket& socket) {
    return filter.accepts(to_listener(socket));
  });
}

/// Reads from sock_diag, or from /proc where that is the source or the diag module of the protocol
/// is missing: udp_diag may be missing where tcp_diag is present.
Result<std::vector<DiagSocket>> ListenerSource::read_sockets(Protocol protocol) {
  auto* const diag = std::get_if<SockDiag>(&tcp_);
  if (diag != nullptr && (protocol == Protocol::Tcp || modules_.of(protocol))) {
    return diag->listeners(protocol);
  }
  if (protocol == Protocol::Tcp) return std::get<ProcNetSockets>(tcp_).listeners();
  if (!udp_) {
    auto table = ProcNetSockets::open(pid_, netns_, protocol);
    if (!table) return std::unexpected(table.error());
    udp_ = std::move(*table);
  }
  return udp_->listeners();
}

Result<void> ListenerSource::add_listeners(Protocol protocol, const ListenerFilter& filter,
                                           std::vector<Listener>& out) {
  const auto found = read_sockets(protocol);
  if (!found) return std::unexpected(found.error());
  for (const DiagSocket& socket : *found) {
    Listener listener = to_listener(protocol, socket);
    if (filter.accepts(listener)) out.push_back(std::move(listener));
  }
  return {};
}

/// Adds known UDP listeners that have been connected since. A server may connect its UDP socket to
/// the first client. The socket counts as a listener for its lifetime, though it receives from that
/// peer only and a dump of unconnected sockets omits it.
Result<void> ListenerSource::add_connected(const std::vector<Listener>& known,
                                           std::vector<Listener>& out) {
  auto* const diag = std::get_if<SockDiag>(&tcp_);
  if (diag == nullptr || !modules_.of(Protocol::Udp)) return {};
  std::vector<Listener> missing;
  std::ranges::copy_if(
      known, std::back_inserter(missing), [there = cookies_of(out)](const Listener& l) {
        return l.protocol == Protocol::Udp && !std::ranges::binary_search(there, l.cookie);
      });
  if (missing.empty()) return {};
  const auto connected = diag->connected_datagrams();
  if (!connected) return std::unexpected(connected.error());
  std::ranges::copy_if(missing, std::back_inserter(out),
                       [there = cookies_of(*connected)](const Listener& l) {
                         return std::ranges::binary_search(there, l.cookie);
                       });
  return {};
}

// --- watch ---------------------------------------------------------------------------------------

PortWatch::PortWatch(const Shared& shared, Callbacks callbacks, pid_t pid, std::uint64_t netns)
    : loop_(shared.loop),
      pace_(shared.pace),
      rate_limit_(shared.rate_limit),
      wanted_udp_(shared.udp),
      callbacks_(std::move(callbacks)),
      pid_(pid),
      netns_(netns),
      counter_(open_counter(pid, netns)),
      source_(shared.modules, pid, netns),
      evidence_(loop_, [this] { poll_on_evidence(); }),
      changed_(loop_, [this] { callbacks_.on_listeners(); }),
      slot_(pace_, *this) {
  assert(callbacks_.on_source_needed != nullptr && callbacks_.on_listeners != nullptr);
}

void PortWatch::use_diag(UniqueFd dumps, UniqueFd events) {
  assert(dumps.valid());
  requested_ = renew_ = false;
  request_backoff_.reset();
  dump_backoff_.reset();
  slot_.reset_costs();
  source_.use_diag(std::move(dumps));
  if (events.valid()) {
    closes_.emplace(loop_, rate_limit_, std::move(events), [this] { on_closes(); });
    update_close_watch();
  }
  stale_ = kAllListeners;
  slot_.request_full_poll();
}

Result<void> PortWatch::use_procfs() {
  return use_procfs(ProcNetSockets::open(pid_, netns_));
}

Result<void> PortWatch::use_procfs(Result<ProcNetSockets> table) {
  if (!table) {
    diag_failed(table.error());
    return std::unexpected(table.error());
  }
  requested_ = renew_ = false;
  request_backoff_.reset();
  source_.use_procfs(std::move(*table));
  stale_ = kAllListeners;
  slot_.request_full_poll();
  return {};
}

void PortWatch::diag_failed(const Error& error) {
  requested_ = false;
  initial_scan_done_ = true;
  request_backoff_.fail(error, loop_.now());
}

void PortWatch::renew_source() {
  renew_ = true;
  request_backoff_.reset();
  slot_.request_full_poll();
}

void Backoff::fail(const Error& error, TimePoint now) {
  const Duration longest = is_shortage(error) ? kLastBackoffInShortage : kLastBackoff;
  pause_ = std::clamp(pause_ * 2, kFirstBackoff, longest);
  until_ = now + pause_;
}

void PortWatch::request_source() {
  if (requested_ || !request_backoff_.over(loop_.now())) return;
  requested_ = true;
  callbacks_.on_source_needed();
}

// --- polling -------------------------------------------------------------------------------------

Pollable::Depth PortWatch::poll(Depth depth) {
  if (closes_ && closes_->paused()) {
    closes_->resume();
    apply_closes();
  }
  if (closes_ && closes_->refresh_membership()) stale_.ports = true;
  if (!dump_backoff_.over(loop_.now())) return Depth::Quick;
  const ListenerKinds kinds = due(depth);
  if (!kinds.any()) return Depth::Quick;
  if (dormant() && !kinds.ports && !source_.has_unix_listener(filter_)) {
    drop(kinds);
    return Depth::Full;
  }
  if (dormant() || renew_) request_source();
  if (dormant()) return Depth::Quick;
  dump(kinds);
  return Depth::Full;
}

void PortWatch::poll_now() {
  stale_ = kAllListeners;
  slot_.expect_reopen();
  if (!evidence_.armed()) evidence_.arm_at(std::max(evidence_due_, loop_.now()));
}

/// Dumps at once, unless the source reads /proc, which is too expensive. Only ports: a dump of Unix
/// sockets walks all of the namespace, of which a program can make any number, so it waits for the
/// next poll, which the budget pays.
void PortWatch::poll_on_evidence() {
  evidence_due_ = loop_.now() + kEvidenceGap;
  if (!source_.is_diag() || !dump_backoff_.over(loop_.now())) return;
  const Duration before = pace_.cpu_time();
  dump({.ports = true});
  slot_.charge(pace_.cpu_time() - before);
}

/// What to dump. A listener on a port counts as a socket in use from listen() until it is closed or
/// shut down. The counters are read before the dump, so a change during the dump is found by the
/// next poll. If one socket has closed and another was opened since the last poll, the counters are
/// the same; hence the occasional full polls.
ListenerKinds PortWatch::due(Depth depth) {
  if (filter_.udp != wanted_udp_) {
    filter_.udp = wanted_udp_;
    stale_.ports = true;
  }
  if (!counter_) return kAllListeners;
  const auto now = counter_->read(filter_.udp.wanted);
  if (!now) return kAllListeners;
  const SocketsInUse before = std::exchange(seen_, *now);
  stale_.ports |= !now->same_ports(before);
  if (now->others != before.others) {
    stale_.unix_sockets = true;
    unix_again_ = loop_.now() + kListenDelay;
  } else if (loop_.now() >= unix_again_) {
    stale_.unix_sockets = true;
    unix_again_ = TimePoint::max();
  }
  drop({.ports = now->no_ports(), .unix_sockets = now->others == 0});
  ListenerKinds kinds = stale_;
  if (depth == Depth::Full) {
    kinds.ports |= !now->no_ports();
    const bool rested = renew_ || loop_.now() >= unix_dumped_ + kUnixPause;
    kinds.unix_sockets |= now->others != 0 && rested;
  }
  return kinds;
}

/// Notes that there are no listeners of these kinds.
void PortWatch::drop(ListenerKinds kinds) {
  if (!kinds.any()) return;
  if (kinds.ports) stale_.ports = false;
  if (kinds.unix_sockets) stale_.unix_sockets = false;
  if (kinds.unix_sockets) unix_dumped_ = loop_.now();
  initial_scan_done_ |= !stale_.any();
  if (std::ranges::none_of(listeners_, [&](const Listener& l) { return kinds.include(l); })) return;
  std::vector<Listener> others;
  std::ranges::copy_if(listeners_, std::back_inserter(others),
                       [&](const Listener& l) { return !kinds.include(l); });
  set_listeners(std::move(others));
}

void PortWatch::dump(ListenerKinds kinds) {
  assert(!dormant());
  ++dumps_;
  auto now = source_.read(kinds, filter_, listeners_);
  if (!now) return dump_failed(kinds, now.error());
  dump_backoff_.reset();
  if (kinds.ports) stale_.ports = false;
  if (kinds.unix_sockets) stale_.unix_sockets = false;
  if (kinds.unix_sockets) unix_dumped_ = loop_.now();
  initial_scan_done_ |= !stale_.any();
  std::ranges::sort(*now);
  now->erase(std::ranges::unique(*now).begin(), now->end());  // a long dump may repeat some
  if (has_new_port(listeners_, *now)) slot_.slow_down();
  set_listeners(std::move(*now));
}

/// Keeps the listeners: a failed dump does not mean that they have closed.
void PortWatch::dump_failed(ListenerKinds kinds, const Error& error) {
  if (!dump_backoff_.failing()) {
    log::debug("watch: cannot dump listeners of pid {}: {}; will retry", pid_, error.text());
  }
  dump_backoff_.fail(error, loop_.now());
  stale_ |= kinds;
}

void PortWatch::update_close_watch() {
  if (!closes_) return;
  const bool udp = std::ranges::count(listeners_, Protocol::Udp, &Listener::protocol) != 0;
  closes_->set_ports(ports_of(listeners_), udp);
}

void PortWatch::set_listeners(std::vector<Listener> now) {
  assert(std::ranges::is_sorted(now));
  if (now == listeners_) return;
  listeners_ = std::move(now);
  update_close_watch();
  changed_.arm_now();
}

void PortWatch::ignore(std::uint32_t inode) {
  assert(inode != 0);
  filter_.ignored.push_back(inode);
  std::vector<Listener> others;
  std::ranges::copy_if(listeners_, std::back_inserter(others),
                       [inode](const Listener& l) { return l.inode != inode; });
  set_listeners(std::move(others));
}

void PortWatch::stop_ignoring(std::uint32_t inode) {
  [[maybe_unused]] const auto erased = std::erase(filter_.ignored, inode);
  assert(erased > 0);
}

// --- close events --------------------------------------------------------------------------------

void PortWatch::on_closes() {
  if (!slot_.can_spend()) {
    closes_->pause();  // poll() reads them
    slot_.request_full_poll();
    return;
  }
  const Duration before = pace_.cpu_time();
  apply_closes();
  slot_.charge(pace_.cpu_time() - before);
}

void PortWatch::apply_closes() {
  assert(closes_);
  DestroyEvents::Batch batch = closes_->read_events();
  if (batch.lost) {
    stale_.ports = true;
    slot_.request_full_poll();
  }
  std::ranges::sort(batch.cookies);
  const auto closed = [&](const Listener& l) {
    return std::ranges::binary_search(batch.cookies, l.cookie);
  };
  if (std::ranges::none_of(listeners_, closed)) return;
  std::vector<Listener> left;
  std::ranges::remove_copy_if(listeners_, std::back_inserter(left), closed);
  stale_.ports = true;  // a server that restarts leaves the counters unchanged
  slot_.expect_reopen();
  set_listeners(std::move(left));
}

}  // namespace portfwd
