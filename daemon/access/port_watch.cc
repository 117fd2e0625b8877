
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

std::vector<Port> ports_of(const std::vector<Listener>& listeners) {
  std::vector<Port> ports;
  for (const Listener& l : listeners) {
    if (const Endpoint* at = l.local.endpoint()) ports.push_back(at->port);
  }
  std::ranges::sort(ports);
  ports.erase(std::ranges::unique(ports).begin(), ports.end());
  return ports;
}

template <class Socket>
std::vector<std::uint64_t> cookies_of(const std::vector<Socket>& sockets) {
  std::vector<std::uint64_t> cookies;
  std::ranges::transform(sockets, std::back_inserter(cookies), &Socket::cookie);
  std::ranges::sort(cookies);
  return cookies;
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

Result<std::vector<Listener>> ListenerSource::read(const ListenerFilter& filter,
                                                   const std::vector<Listener>& known) {
  assert(exists());
  std::vector<Listener> out;
  if (auto tcp = add_listeners(Protocol::Tcp, filter, out); !tcp) {
    return std::unexpected(tcp.error());
  }
  if (!filter.udp.wanted) return out;
  if (auto udp = add_listeners(Protocol::Udp, filter, out); !udp) {
    return std::unexpected(udp.error());
  }
  if (auto connected = add_connected(known, out); !connected) {
    return std::unexpected(connected.error());
  }
  return out;
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
  stale_ = true;
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
  stale_ = true;
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
  if (closes_ && closes_->refresh_membership()) stale_ = true;
  if (!dump_backoff_.over(loop_.now()) || !needs_dump(depth)) return Depth::Quick;
  if (dormant() || renew_) request_source();
  if (dormant()) return Depth::Quick;
  dump();
  return Depth::Full;
}

void PortWatch::poll_now() {
  stale_ = true;
  slot_.expect_reopen();
  if (!evidence_.armed()) evidence_.arm_at(std::max(evidence_due_, loop_.now()));
}

/// Dumps at once, unless the source reads /proc, which is too expensive.
void PortWatch::poll_on_evidence() {
  evidence_due_ = loop_.now() + kEvidenceGap;
  if (!source_.is_diag() || !dump_backoff_.over(loop_.now())) return;
  const Duration before = pace_.cpu_time();
  dump();
  slot_.charge(pace_.cpu_time() - before);
}

/// Whether to dump. A listener counts as a socket in use from listen() until it is closed or shut
/// down. The counters are read before the dump, so a change during the dump is found by the next
/// poll. If one socket has closed and another was opened since the last poll, the counters are the
/// same; hence the occasional full polls.
bool PortWatch::needs_dump(Depth depth) {
  if (filter_.udp != wanted_udp_) {
    filter_.udp = wanted_udp_;
    stale_ = true;
  }
  if (!counter_) return true;
  const auto now = counter_->read(filter_.udp.wanted);
  if (!now) return true;
  const bool moved = *now != seen_;
  seen_ = *now;
  if (now->none()) {
    initial_scan_done_ = true;
    stale_ = false;
    set_listeners({});
    return false;
  }
  stale_ |= moved;
  return stale_ || depth == Depth::Full;
}

void PortWatch::dump() {
  assert(!dormant());
  ++dumps_;
  auto now = source_.read(filter_, listeners_);
  if (!now) return dump_failed(now.error());
  dump_backoff_.reset();
  stale_ = false;
  initial_scan_done_ = true;
  std::ranges::sort(*now);
  now->erase(std::ranges::unique(*now).begin(), now->end());  // a long dump may repeat some
  if (!std::ranges::includes(listeners_, *now)) slot_.slow_down();
  set_listeners(std::move(*now));
}

/// Keeps the listeners: a failed dump does not mean that they have closed.
void PortWatch::dump_failed(const Error& error) {
  if (!dump_backoff_.failing()) {
    log::debug("watch: cannot dump listeners of pid {}: {}; will retry", pid_, error.text());
  }
  dump_backoff_.fail(error, loop_.now());
  stale_ = true;
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
    stale_ = true;
    slot_.request_full_poll();
  }
  std::ranges::sort(batch.cookies);
  const auto closed = [&](const Listener& l) {
    return std::ranges::binary_search(batch.cookies, l.cookie);
  };
  if (std::ranges::none_of(listeners_, closed)) return;
  std::vector<Listener> left;
  std::ranges::remove_copy_if(listeners_, std::back_inserter(left), closed);
  stale_ = true;  // a server that restarts leaves the counters unchanged
  slot_.expect_reopen();
  set_listeners(std::move(left));
}

}  // namespace portfwd
