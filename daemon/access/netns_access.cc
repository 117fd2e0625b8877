
#include "access/netns_access.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "access/bridge_access.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "broker/client/broker_client.h"
#include "kernel/procfs.h"
#include "kernel/sock_diag.h"

namespace portfwd {

namespace {

/// Must be longer than the time between two scans of discovery.
constexpr Duration kOwnerGracePeriod = std::chrono::milliseconds(150);

/// About ports only: which of the Unix sockets cannot be reached is said by each of them.
std::string reason_for(const std::vector<Listener>& listeners) {
  for (const Listener& l : listeners) {
    const Endpoint* at = l.local.endpoint();
    if (l.unreachable.empty() || at == nullptr || at->address == kEngineResolver) continue;
    return fmt::format("cannot reach port {}: {}", at->port, l.unreachable);
  }
  return {};
}

}  // namespace

namespace {

/// Why no process can dial a listener by its name; "" if one can.
struct NameTrouble {
  std::string operator()(const UnixPath& at) const {
    if (!at.path.starts_with('/')) {
      return "its path is relative to the folder that its program was in; let the server bind an "
             "absolute path";
    }
    if (at.path.size() <= kLongestUnixName) return "";
    return fmt::format(
        "its path is too long for clients; let the server bind one of at most {} "
        "bytes",
        kLongestUnixName);
  }
  std::string operator()(const auto&) const { return ""; }
};

}  // namespace

NetnsAccess::NetnsAccess(const Parts& parts, pid_t pid, std::uint64_t netns)
    : loop_(parts.watching.loop),
      observer_(parts.observer),
      path_brokers_(parts.path_brokers),
      modules_(parts.watching.modules),
      grace_period_(parts.watching.loop, [this] { end_grace_period(); }),
      names_(parts.watching.loop, parts.names, netns, [this] { update_listeners(); }),
      watch_(parts.watching,
             {.on_source_needed = [this] { on_source_needed(); },
              .on_listeners = [this] { update_listeners(); }},
             pid, netns) {}

NetnsAccess::~NetnsAccess() {
  assert(members_.empty());
}

std::unique_ptr<NetnsMember> NetnsAccess::add(const Container& container) {
  auto member = std::make_unique<NetnsMember>(container, *this);
  members_.push_back(member.get());
  return member;
}

void NetnsAccess::remove(const NetnsMember& member) {
  assert(std::ranges::count(members_, &member) == 1);
  std::erase_if(makers_, [&](const auto& made) { return made.second == &member; });
  std::erase(members_, &member);
}

bool NetnsAccess::all_reported() const {
  const auto undecided = [](const auto* member) { return member->container().undecided; };
  return !grace_period_.armed() && watch_.all_reported() && names_.all_reported() &&
         std::ranges::none_of(members_, undecided);
}

void NetnsAccess::update_listeners() {
  std::vector<Listener> now = names_.name(watch_.listeners());
  assert(std::ranges::is_sorted(now));
  for (Listener& listener : now) listener.unreachable = std::visit(NameTrouble(), listener.local);
  prepare_dialing(now);
  listeners_ = std::move(now);
  distribute_listeners();
}

void NetnsAccess::mark_paths(std::vector<Listener>& listeners, std::string_view why) {
  for (Listener& listener : listeners) {
    const bool path = std::holds_alternative<UnixPath>(listener.local);
    if (path && listener.unreachable.empty()) listener.unreachable = why;
  }
}

void NetnsAccess::distribute_listeners() {
  if (members_.empty()) return;
  for (NetnsMember* member : members_) member->update_anchor();
  const Makers known = std::exchange(makers_, {});
  std::vector<std::vector<Listener>> by_container(members_.size());
  for (const Listener& listener : listeners_) {
    if (const auto owner = owner_of(listener, known)) by_container[*owner].push_back(listener);
  }
  for (std::size_t i = 0; i < members_.size(); ++i) {
    NetnsMember& member = *members_[i];
    if (member.container().undecided && member.listeners().empty()) continue;
    if (member.set_listeners(std::move(by_container[i]))) observer_.on_listeners(member);
    assert(i < members_.size() && members_[i] == &member);  // observers must not remove members
  }
}

/// @return the index of the member; nullopt while the container of the listener may still be found
std::optional<std::size_t> NetnsAccess::owner_of(const Listener& listener, const Makers& known) {
  assert(!members_.empty());
  const std::uint64_t cgroup = listener.cgroup_id;
  const auto* maker = cgroup == 0 ? nullptr : maker_of(cgroup, known);
  const auto owner = std::ranges::find(members_, maker);
  if (owner != members_.end()) return static_cast<std::size_t>(owner - members_.begin());
  const Container& first = members_.front()->container();
  const bool comparable = cgroup != 0 && first.cgroup_id != 0 && !first.engine_id.empty();
  if (!comparable || unclaimed_.contains(cgroup)) return 0;
  if (awaited_.insert(cgroup).second && !grace_period_.armed()) {
    grace_period_.arm_after(kOwnerGracePeriod);
  }
  return std::nullopt;
}

/// The member with this cgroup; else, as containers may be nested, the member with the innermost
/// cgroup folder that contains it. Searching folders is expensive, so results are cached.
const NetnsMember* NetnsAccess::maker_of(std::uint64_t cgroup, const Makers& known) {
  assert(cgroup != 0);
  for (const NetnsMember* member : members_) {
    if (member->container().cgroup_id == cgroup) return member;
  }
  if (const auto found = known.find(cgroup); found != known.end()) {
    return makers_[cgroup] = found->second;
  }
  const NetnsMember* maker = nullptr;
  for (const NetnsMember* member : members_) {
    const std::string& folder = member->container().cgroup;
    const bool inner = maker == nullptr || folder.size() > maker->container().cgroup.size();
    if (inner && cgroup_holds(folder, cgroup)) maker = member;
  }
  if (maker != nullptr) makers_[cgroup] = maker;
  return maker;
}

void NetnsAccess::end_grace_period() {
  unclaimed_.merge(std::exchange(awaited_, {}));
  distribute_listeners();
}

bool NetnsMember::set_listeners(std::vector<Listener> listeners) {
  assert(std::ranges::is_sorted(listeners));
  const bool other_kind = std::exchange(reported_kind_, kind()) != kind();
  if (listeners == listeners_ && !other_kind) return false;
  listeners_ = std::move(listeners);
  ever_listened_ |= !listeners_.empty();
  reason_ = reason_for(listeners_);
  return true;
}

namespace {

constexpr std::uint32_t kDiagSockets = 2;  // one for dumps, one for close events

/// The container's network has no IPv6, or none on its lo.
bool lacks_family(const Error& error) {
  return error.code == EADDRNOTAVAIL || error.code == EAFNOSUPPORT;
}

/// A port in the namespace: a socket for each family, both or neither.
class BrokerInsidePort final : public InsidePort {
 public:
  struct Parts {
    std::shared_ptr<BrokerClient> broker;
    int netns;  ///< borrowed descriptor, or -1 for where the broker is
    PortWatch& watch;
  };
  BrokerInsidePort(Parts parts, Port port, OnInsidePort on_port)
      : parts_(std::move(parts)), port_(port), on_port_(std::move(on_port)) {
    assert(port_ != 0 && on_port_ != nullptr);
    request(Family::V4);
  }
  BrokerInsidePort(const BrokerInsidePort&) = delete;
  BrokerInsidePort& operator=(const BrokerInsidePort&) = delete;
  ~BrokerInsidePort() override {
    for (const std::uint32_t inode : ignored_) parts_.watch.stop_ignoring(inode);
  }

 private:
  void request(Family family) {
    call_ = parts_.broker->call(
        bound_stream({IpAddress::loopback(family), port_}), parts_.netns,
        [this, family](Result<BrokerClient::Sockets> made) { on_made(family, std::move(made)); });
  }

  void on_made(Family family, Result<BrokerClient::Sockets> made) {
    const bool optional = family == Family::V6;
    if (!made && !(optional && lacks_family(made.error()))) {
      return report(std::unexpected(made.error()));
    }
    if (made) {
      assert(made->size() == 1);
      if (const auto added = add(family, std::move(made->front())); !added) {
        return report(std::unexpected(added.error()));
      }
    }
    if (family == Family::V4) return request(Family::V6);
    report(std::move(sockets_));
  }

  /// Called last: the callback may destroy this.
  void report(Result<std::vector<BoundSocket>> sockets) {
    OnInsidePort on_port = std::move(on_port_);
    if (sockets) return on_port(std::move(*sockets));
    on_port(std::unexpected(InsideFailure{sockets.error(), sockets.error().text()}));
  }

  /// It does not listen yet, so no poll can have seen it before it is ignored.
  Result<void> add(Family family, UniqueFd socket) {
    const auto inode = socket_inode(socket.get());
    if (!inode) return std::unexpected(inode.error());
    parts_.watch.ignore(*inode);
    ignored_.push_back(*inode);
    sockets_.push_back({Endpoint{IpAddress::loopback(family), port_}, std::move(socket)});
    return {};
  }

  Parts parts_;
  Port port_;
  OnInsidePort on_port_;
  std::vector<BoundSocket> sockets_;
  std::vector<std::uint32_t> ignored_;
  BrokerCall call_;
};

}  // namespace

NetnsSockets::NetnsSockets(RelayContext& relay, std::shared_ptr<BrokerClient> broker,
                           UniqueFd netns, PortWatch& watch)
    : relay_(relay), broker_(std::move(broker)), netns_(std::move(netns)), watch_(watch) {
  assert(broker_ != nullptr);
}

void NetnsSockets::request_diag(Done done) {
  call_ =
      broker_->call(sock_diag_sockets(kDiagSockets), netns_.get(),
                    [this, done = std::move(done)](Result<BrokerClient::Sockets> sockets) mutable {
                      if (!sockets) return done(std::unexpected(sockets.error()));
                      assert(sockets->size() == kDiagSockets);
                      watch_.use_diag(std::move((*sockets)[0]), std::move((*sockets)[1]));
                      done({});
                    });
}

void NetnsSockets::request_probe(Done done) {
  call_ =
      broker_->call(stream_sockets(Family::V4, 1), netns_.get(),
                    [done = std::move(done)](const Result<BrokerClient::Sockets>& sockets) mutable {
                      if (!sockets) return done(std::unexpected(sockets.error()));
                      done({});
                    });
}

NetnsSockets::PooledDialer& NetnsSockets::pooled_dialer(Protocol protocol) {
  assert(protocol != Protocol::Unix);
  std::unique_ptr<PooledDialer>& pooled_dialer = protocol == Protocol::Tcp ? streams_ : datagrams_;
  if (!pooled_dialer)
    pooled_dialer = std::make_unique<PooledDialer>(relay_, broker_, netns_.get(), protocol);
  return *pooled_dialer;
}

void NetnsSockets::prepare(const std::vector<Listener>& listeners) {
  for (const Listener& listener : listeners) {
    if (listener.ip_address() == nullptr) continue;  // the pools have IP sockets
    SocketPool& pool = pooled_dialer(listener.protocol).pool;
    pool.prepare(Family::V4);
    pool.prepare(Family::V6);
  }
}

std::unique_ptr<InsidePort> NetnsSockets::listen_inside(Port port, OnInsidePort on_port) {
  return std::make_unique<BrokerInsidePort>(BrokerInsidePort::Parts{broker_, netns_.get(), watch_},
                                            port, std::move(on_port));
}

BrokerAccess::BrokerAccess(const Parts& parts, RelayContext& relay, Entry entry)
    : NetnsAccess(parts, entry.pid, entry.netns),
      name_(std::move(entry.name)),
      has_files_(entry.pid != 0),
      sockets_(relay, std::move(entry.broker), std::move(entry.netns_fd), watch()) {}

void BrokerAccess::on_source_needed() {
  if (!modules().of(Protocol::Tcp)) {
    (void)watch().use_procfs();  // a failure is counted by the watch
    return;
  }
  request_diag();
}

void BrokerAccess::prepare_dialing(std::vector<Listener>& listeners) {
  if (!has_files_) {
    mark_paths(listeners,
               "no process of the container is known, through which its files could be "
               "opened; attach it by the pid of one");
  }
  sockets_.prepare(listeners);
}

void BrokerAccess::request_diag() {
  sockets_.request_diag([this](Result<void> made) {
    if (!made) return on_failure(made.error());
    failure_logged_ = false;
  });
}

/// After a failure of the broker itself, the broker's own pause applies: the next request is sent
/// as soon as another broker runs. If the broker could not make the sockets, the watch requests
/// them again at its own pace.
void BrokerAccess::on_failure(const Error& error) {
  if (BrokerClient::is_broker_failure(error)) {
    watch().diag_delayed();
    request_diag();
  } else {
    watch().diag_failed(error);
  }
  if (std::exchange(failure_logged_, true)) return;
  log::write(
      log::Level::Warning,
      fmt::format("cannot enter network namespace of {}: {}; will retry{}", name_, error.text(),
                  and_remedy_of_shortage(error)),
      {{"MESSAGE_ID", std::string(log::message_id::kBrokerFailed)}, {"PORTFWD_CONTAINER", name_}});
}

}  // namespace portfwd
