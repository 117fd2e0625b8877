#include "access/container_sockets.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <iterator>
#include <optional>
#include <utility>

#include "kernel/netns.h"
#include "kernel/procfs.h"
#include "kernel/sock_diag.h"
#include "relay/unix_binding.h"
#include "relay/unix_dialer.h"

namespace portfwd {

namespace {

/// An attempt that has failed before it began.
class FailedDial final : public Dial {
 public:
  FailedDial(EventLoop& loop, DialHandler& handler, Error error)
      : timer_(loop, [&handler, error] { handler.on_dialled(std::unexpected(error)); }) {
    timer_.arm_now();
  }

 private:
  Timer timer_;
};

ConnectOptions connect_options(const DialOptions& options) {
  ConnectOptions out{.type = options.type, .refuse_fds = options.refuse_fds};
  if (options.peer_uid) out.peer = InnerUser{*options.peer_uid, gid_t{*options.peer_uid}};
  return out;
}

}  // namespace

namespace {

/// A Unix socket of the daemon's own in the container.
class UnixInsidePort final : public InsidePort {
 public:
  UnixInsidePort(PathBroker& broker, PortWatch& watch, const Address& address,
                 const ListenOptions& options, OnInsidePort on_port)
      : watch_(watch), on_port_(std::move(on_port)) {
    call_ = bind_unix(
        broker, address, options, [this](int socket) { ignore(socket); },
        [this](std::expected<BoundSocket, PathFailure> bound) { report(std::move(bound)); });
  }
  UnixInsidePort(const UnixInsidePort&) = delete;
  UnixInsidePort& operator=(const UnixInsidePort&) = delete;
  ~UnixInsidePort() override {
    for (const std::uint32_t inode : ignored_) watch_.stop_ignoring(inode);
  }

 private:
  /// It does not listen yet, so no poll can have seen it.
  void ignore(int socket) {
    const auto inode = socket_inode(socket);
    if (!inode) return;
    watch_.ignore(*inode);
    ignored_.push_back(*inode);
  }

  /// Calls back last: this may be destroyed then.
  void report(std::expected<BoundSocket, PathFailure> bound) {
    OnInsidePort on_port = std::move(on_port_);
    if (!bound) {
      return on_port(std::unexpected(InsideFailure{bound.error().error, text_of(bound.error())}));
    }
    std::vector<BoundSocket> one;
    one.push_back(std::move(*bound));
    on_port(std::move(one));
  }

  PortWatch& watch_;
  OnInsidePort on_port_;
  std::vector<std::uint32_t> ignored_;  ///< inodes
  PathCall call_;
};

/// The owner that a process has for the files that it makes, in its user namespace.
std::optional<InnerUser> owner_inside(pid_t pid) {
  const ProcDir proc;
  const auto status = proc.read(pid, "status");
  const auto uids = proc.read(pid, "uid_map");
  const auto gids = proc.read(pid, "gid_map");
  if (!status || !uids || !gids) return std::nullopt;
  const auto uid = procfs::parse_status_uid(*status);
  const auto gid = procfs::parse_status_gid(*status);
  if (!uid || !gid) return std::nullopt;
  const auto inner_uid = procfs::inner_id(*uids, *uid);
  const auto inner_gid = procfs::inner_id(*gids, *gid);
  if (!inner_uid || !inner_gid) return std::nullopt;
  return InnerUser{*inner_uid, *inner_gid};
}

}  // namespace

/// Dials with the same options each time. The broker is made for the first attempt.
class ContainerSockets::SocketDialer final : public Dialer {
 public:
  SocketDialer(ContainerSockets& owner, const DialOptions& options)
      : owner_(owner), options_(options) {}

  [[nodiscard]] const DialOptions& options() const { return options_; }
  [[nodiscard]] DialStart dial(std::span<const Address> candidates, TimePoint deadline,
                               DialHandler& handler) override {
    const auto broker = owner_.broker();
    if (!broker) {
      return {UniqueFd(), std::make_unique<FailedDial>(owner_.loop_, handler, broker.error())};
    }
    if (!dialer_) dialer_.emplace(owner_.loop_, **broker, connect_options(options_));
    return dialer_->dial(candidates, deadline, handler);
  }

 private:
  ContainerSockets& owner_;
  const DialOptions options_;
  std::optional<UnixDialer> dialer_;
};

PathBrokers::Lease PathBrokers::make(PathPlace place, const std::string& key) {
  auto discard = [carrier = carriers_.of(key)](UniqueFd socket) {
    carrier->discard(std::move(socket));
  };
  Lease made(new PathBroker(loop_, launcher_, std::move(place), std::move(discard)), Release{this});
  leased_.push_back(made.get());
  return made;
}

bool PathBrokers::busy() const {
  return !released_.empty() ||
         std::ranges::any_of(leased_, [](const PathBroker* broker) { return !broker->is_idle(); });
}

std::vector<pid_t> PathBrokers::stuck() const {
  std::vector<pid_t> pids;
  const auto add = [&pids](const PathBroker& broker) {
    std::ranges::move(broker.stuck(), std::back_inserter(pids));
  };
  for (const PathBroker* broker : leased_) add(*broker);
  for (const auto& broker : released_) add(*broker);
  return pids;
}

void PathBrokers::release(PathBroker* broker) {
  std::erase(leased_, broker);
  released_.emplace_back(broker);
  if (!timer_.armed()) timer_.arm_now();
}

/// A request ends after the deadline of a broker at the latest.
void PathBrokers::end_idle() {
  std::erase_if(released_, [](const auto& broker) { return broker->is_idle(); });
  if (!released_.empty()) timer_.arm_after(kPause);
}

ContainerSockets::ContainerSockets(EventLoop& loop, PathBrokers& brokers,
                                   const Container& container)
    : loop_(loop), brokers_(brokers), container_(container) {}

ContainerSockets::~ContainerSockets() = default;

/// The pid may be another process's by now: its start time shows that it is the same.
Result<PathPlace> ContainerSockets::open_place() const {
  if (container_.pid == 0) return fail("open", ESRCH);
  const auto process = open_pidfd(container_.pid);
  if (!process) return std::unexpected(process.error());
  const auto stat = ProcDir().stat(container_.pid);
  if (!stat || stat->started != container_.started) return fail("open", ESRCH);
  return PathPlace::of_container(container_.pid, process->get());
}

Result<PathBroker*> ContainerSockets::broker() {
  if (broker_ != nullptr) return broker_.get();
  auto place = open_place();
  if (!place) return std::unexpected(place.error());
  anchor_ = container_.pid;
  broker_ = brokers_.make(std::move(*place), container_.id);
  return broker_.get();
}

void ContainerSockets::update_anchor() {
  if (broker_ == nullptr || anchor_ == container_.pid) return;
  auto place = open_place();
  if (!place) return;  // the next anchor comes, or the container's end
  anchor_ = container_.pid;
  broker_->move_to(std::move(*place));
}

Answer<std::unique_ptr<InsidePort>> ContainerSockets::listen_inside(const InsidePlace& place,
                                                                    PortWatch& watch,
                                                                    OnInsidePort on_port) {
  const auto found = broker();
  if (!found) {
    return refuse(Refusal::Kind::Inaccessible,
                  fmt::format("cannot make a socket in this container: {}", found.error().text()));
  }
  const SocketOptions& asked = place.socket;
  ListenOptions options{.mode = asked.mode, .make_parents = asked.create_parents};
  options.refuse_fds = !asked.pass_fds;
  options.owner = asked.owner ? std::optional(InnerUser{asked.owner->uid, asked.owner->gid})
                              : owner_inside(container_.pid);
  return std::make_unique<UnixInsidePort>(**found, watch, address_of(place.target, IpAddress()),
                                          options, std::move(on_port));
}

Dialer& ContainerSockets::dialer(const DialOptions& options) {
  assert(options.protocol == Protocol::Unix);
  const auto known = std::ranges::find_if(
      dialers_, [&](const auto& dialer) { return dialer->options() == options; });
  if (known != dialers_.end()) return **known;
  return *dialers_.emplace_back(std::make_unique<SocketDialer>(*this, options));
}

}  // namespace portfwd
