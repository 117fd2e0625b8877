// The daemon's access to the Unix sockets of one place, a container or the host: connects to a path
// or an abstract name, binds one, removes what it has bound. The daemon itself never looks up a
// path there, because a file system of a container answers when it wants. Owned per place; it knows
// the protocol, and nothing of forwards.
//
// Its brokers are processes of its own, so that a container that stalls them stalls only itself:
// one for paths, and for a container one for abstract names, which opens no file. Each starts with
// the first request and ends after kIdle without one. One that does not answer is killed, which may
// take until its file system answers: while kMostStuck of them have not exited, requests fail
// (EBUSY).
//
// A socket that is connected to a container's must not be closed by the daemon, because close() may
// block (a peer can attach descriptors to what it sends). What arrives for a request that was
// cancelled, or is still on its way when a broker ends, is passed to the `discard` function.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "broker/client/broker_client.h"
#include "broker/client/broker_launcher.h"
#include "broker/protocol.h"
#include "event/event_loop.h"
#include "net/address.h"

namespace portfwd {

/// A user inside a container, in its user namespace; for an abstract name in that which owns the
/// network namespace, which is another one where a sandbox has several.
struct InnerUser {
  uid_t uid = 0;
  gid_t gid = 0;
};

struct ConnectOptions {
  SocketType type = SocketType::Stream;
  std::optional<InnerUser>
      peer;                ///< whom SO_PEERCRED shows to the server; default: the daemon's user
  bool refuse_fds = true;  ///< EPERM for a peer that sends descriptors; Linux 6.16
};

struct ListenOptions {
  SocketType type = SocketType::Stream;
  std::optional<InnerUser> owner;  ///< of the path; default: the daemon's user, or root inside
  mode_t mode = 0600;              ///< of the path, permission bits
  int backlog = -1;                ///< negative: bind only
  bool make_parents = false;  ///< make missing folders, mode 0755, at most broker::kMostParents
  std::optional<broker::FileId> replace;  ///< a socket that may be replaced
  bool refuse_fds = true;
};

/// A path that was bound, for its removal.
struct BoundPath {
  UnixPath path;
  broker::BoundFile made;
};

struct BoundUnixSocket {
  UniqueFd socket;  ///< non-blocking
  BoundPath bound;  ///< with a path; empty for an abstract name
};

/// Why a request for a path or name failed.
struct PathFailure {
  Error error;
  /// The file that is at the path instead: EEXIST, EADDRINUSE, ENOTSOCK, ESTALE.
  broker::FileKind found = broker::FileKind::None;
};

// Requests, made of values. Pure. ENAMETOOLONG, EINVAL: the address cannot be used. A path must be
// absolute; it may be longer than a sockaddr_un permits.

[[nodiscard]] Result<broker::Request> unix_connection(const Address& address,
                                                      const ConnectOptions& options);
[[nodiscard]] Result<broker::Request> unix_listener(const Address& address,
                                                    const ListenOptions& options);
[[nodiscard]] Result<broker::Request> unix_removal(const BoundPath& bound);

/// Descriptors of a place: what a broker needs to look up its paths and names. Opening them does
/// not touch the container's file systems.
struct PathPlace {
  UniqueFd root;          ///< invalid: only names can be reached (EOPNOTSUPP)
  UniqueFd userns;        ///< of its users; invalid: the daemon's own
  UniqueFd netns;         ///< invalid: the daemon's own
  UniqueFd netns_userns;  ///< that owns `netns`, for abstract names; invalid: the daemon's own
  broker::Home home = broker::Home::Paths;

  /// The place of a container.
  /// @param pidfd of its anchor process, borrowed @param pid of the same process
  /// @return ESRCH: the process has exited; EACCES: another user's
  [[nodiscard]] static Result<PathPlace> of_container(pid_t pid, int pidfd);
  /// The host, as the daemon sees it.
  [[nodiscard]] static Result<PathPlace> of_host();
};

class PathBroker;

/// A request in progress. Its destruction cancels it: the callback is not called, and a path that
/// is bound nevertheless is removed.
class PathCall {
 public:
  PathCall() = default;
  PathCall(PathCall&& other) noexcept = default;
  PathCall& operator=(PathCall&& other) noexcept {
    PathCall old(std::move(*this));
    request_ = std::move(other.request_);
    return *this;
  }
  ~PathCall();

 private:
  friend class PathBroker;
  struct Request;
  explicit PathCall(std::weak_ptr<Request> request) : request_(std::move(request)) {}
  std::weak_ptr<Request> request_;
};

class PathBroker {
 public:
  static constexpr Duration kIdle = std::chrono::seconds(10);
  static constexpr std::size_t kMostStuck = 4;

  using Discard = std::move_only_function<void(UniqueFd)>;
  using OnConnected = std::move_only_function<void(std::expected<UniqueFd, PathFailure>)>;
  using OnBound = std::move_only_function<void(std::expected<BoundUnixSocket, PathFailure>)>;
  using OnRemoved = std::move_only_function<void(std::expected<void, PathFailure>)>;

  /// @param launcher starts portfwd-broker
  /// @param discard receives what must not be closed here; empty: it is closed, for the host
  PathBroker(EventLoop& loop, std::shared_ptr<BrokerLauncher> launcher, PathPlace place,
             Discard discard = nullptr);
  PathBroker(const PathBroker&) = delete;
  PathBroker& operator=(const PathBroker&) = delete;
  ~PathBroker();

  /// Replaces the descriptors, after the anchor process of the container has changed. Requests in
  /// progress continue with the previous ones.
  void move_to(PathPlace place);

  /// @param address a UnixPath or AbstractName
  /// @param done never called from within this function; EAGAIN: the backlog is full, retry later.
  /// It must not destroy the PathBroker
  [[nodiscard]] PathCall connect(const Address& address, const ConnectOptions& options,
                                 OnConnected done);
  [[nodiscard]] PathCall listen(const Address& address, const ListenOptions& options, OnBound done);

  /// Removes the path and the folders that were made for it, as far as they are empty.
  /// @param socket the bound socket, which is kept until the path is removed, so that its inode
  /// number is not used for another file; then it is discarded
  void remove(const BoundPath& bound, UniqueFd socket, OnRemoved done = nullptr);

  /// Whether no request is in progress.
  [[nodiscard]] bool is_idle() const { return requests_.empty(); }
  /// Processes that run now. Discovery must not mistake their namespaces for containers.
  [[nodiscard]] std::vector<pid_t> pids() const;
  /// Processes that were killed and have not exited.
  [[nodiscard]] std::vector<pid_t> stuck() const;

 private:
  class Launcher;
  using Request = PathCall::Request;
  using OnReply = BrokerClient::ReplyDone;

  std::shared_ptr<Request> send(const Result<broker::Request>& request, OnReply done,
                                UniqueFd kept = {});
  void on_reply(const std::shared_ptr<Request>& request, Result<BrokerClient::Sockets> sockets,
                const broker::Reply& reply);
  void on_late_reply(const Request& request, BrokerClient::Sockets sockets,
                     const broker::Reply& reply);
  /// The broker for a request, made if necessary.
  [[nodiscard]] std::shared_ptr<BrokerClient> client_for(const broker::Request& request);
  void refuse_invalid();
  void end_if_idle();

  EventLoop& loop_;
  std::shared_ptr<Launcher> launcher_;
  std::shared_ptr<const PathPlace> place_;
  std::shared_ptr<BrokerClient> paths_;  ///< null while not used
  std::shared_ptr<BrokerClient> names_;  ///< of another network namespace; null while not used
  std::list<std::shared_ptr<Request>> requests_;
  Timer refuse_;
  Timer idle_;
};

}  // namespace portfwd
