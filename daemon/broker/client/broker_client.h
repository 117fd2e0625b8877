// The daemon's side of one broker: sends requests and calls back with the descriptors. Shared by
// all containers that the broker serves. It starts the process with the first request, and ends it
// when its last owner releases it. It knows the protocol, and nothing of containers.
//
// Replies come in the order of the requests, so the next reply answers the first call in flight. A
// wrong id or count, no reply before the deadline, or the end of the socket means that the broker
// must not be trusted: it is killed and all calls fail. Another broker is started when needed,
// after a pause that doubles with every failure up to kLongestPause; no request waits longer than
// that. Descriptors that were passed on before are not affected.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "broker/client/broker_launcher.h"
#include "broker/protocol.h"
#include "event/event_loop.h"
#include "net/address.h"

namespace portfwd {

// Requests, made of values, and the check of replies before they are used. Pure; nothing is sent
// here.

/// Sockets to connect.
/// @param count at most broker::kMaxCount
[[nodiscard]] broker::Request stream_sockets(Family family, std::uint32_t count);
[[nodiscard]] broker::Request datagram_sockets(Family family, std::uint32_t count);
/// Netlink sockets for NETLINK_SOCK_DIAG. Their dumps contain uids of the user namespace that the
/// broker has joined.
[[nodiscard]] broker::Request sock_diag_sockets(std::uint32_t count);

/// @param backlog used for Protocol::Tcp only
/// @param v6only used for IPv6 only
[[nodiscard]] broker::Request listener(Protocol protocol, const Endpoint& local, int backlog,
                                       bool v6only);

/// A stream socket that does not listen yet, so that no dump of listeners contains it. IPv6 only if
/// the address is IPv6.
[[nodiscard]] broker::Request bound_stream(const Endpoint& local);

/// Parses a reply.
/// @return nullopt unless the bytes are a valid reply to `request`: size, version, id, and either a
/// failure with an errno and a step or the requested count, and nothing about files that were not
/// part of the request. The caller must check the number of descriptors.
[[nodiscard]] std::optional<broker::Reply> parse_reply(std::span<const std::byte> bytes,
                                                       const broker::Request& request);

/// The step as the operation of an Error, such as "capset".
[[nodiscard]] std::string_view name_of(broker::Step step);

class BrokerClient;

/// A request in progress. Destroying it cancels the request: the callback is not called, and
/// descriptors that arrive later are closed.
class BrokerCall {
 public:
  BrokerCall() = default;
  BrokerCall(BrokerCall&& other) noexcept = default;
  BrokerCall& operator=(BrokerCall&& other) noexcept {
    BrokerCall old(std::exchange(client_, std::move(other.client_)), std::exchange(id_, other.id_));
    return *this;
  }
  ~BrokerCall();

 private:
  friend class BrokerClient;
  BrokerCall(std::weak_ptr<BrokerClient> client, std::uint32_t id)
      : client_(std::move(client)), id_(id) {}
  std::weak_ptr<BrokerClient> client_;
  std::uint32_t id_ = 0;
};

class BrokerClient final : public std::enable_shared_from_this<BrokerClient>, private IoHandler {
 public:
  using Sockets = std::vector<UniqueFd>;
  /// Receives as many descriptors as were requested, close-on-exec and non-blocking, or an error.
  /// Errors of the broker itself have op "broker": ETIMEDOUT, ECONNRESET, EBADMSG. EMFILE: the
  /// descriptor limit is reached.
  using Done = std::move_only_function<void(Result<Sockets>)>;
  [[nodiscard]] static bool is_broker_failure(const Error& e) { return e.op == kOwnOp; }

  /// Time for a reply, from the sending of the request or from the join, whichever is later.
  static constexpr Duration kDeadline = std::chrono::seconds(2);
  static constexpr Duration kShortestPause = std::chrono::milliseconds(100);
  static constexpr Duration kLongestPause = std::chrono::seconds(1);
  static constexpr std::string_view kOwnOp = "broker";

  /// Must be owned by a std::shared_ptr; the loop must outlive it.
  /// @param userns the user namespace to join; invalid: the daemon's own
  BrokerClient(EventLoop& loop, std::shared_ptr<BrokerLauncher> launcher, UniqueFd userns,
               broker::Home home = broker::Home::Private);
  BrokerClient(const BrokerClient&) = delete;
  BrokerClient& operator=(const BrokerClient&) = delete;
  ~BrokerClient();

  /// Sends a request, later from the loop.
  /// @param request made by a function above; its id is set here
  /// @param fd network namespace or root for the request, -1 for none; borrowed until `done` is
  /// called or the result is destroyed
  /// @param done never called from within this function
  [[nodiscard]] BrokerCall call(const broker::Request& request, int fd, Done done);

  /// The same for a request whose reply contains more than descriptors. Also after a failure,
  /// unless it is one of the broker itself; then the reply is empty.
  using ReplyDone = std::move_only_function<void(Result<Sockets>, const broker::Reply&)>;
  [[nodiscard]] BrokerCall call(const broker::Request& request, int fd, ReplyDone done);

  [[nodiscard]] pid_t pid() const { return process_ ? process_->process.pid : 0; }
  [[nodiscard]] std::uint64_t failures() const { return failures_; }  ///< of the broker, so far

 private:
  friend class BrokerCall;
  struct Call {
    broker::Request request;
    int fd = -1;
    ReplyDone done;  ///< empty once cancelled
    TimePoint deadline{};
  };
  struct Running {
    Running(EventLoop& loop, BrokerProcess started, IoHandler& handler)
        : process(std::move(started)), source(loop, process.socket.get(), handler) {}
    BrokerProcess process;
    IoSource source;
  };

  void on_io(IoSource& source, std::uint32_t events) override;
  void work();
  [[nodiscard]] bool start();
  Result<void> send_waiting();
  [[nodiscard]] bool receive_one();
  void complete_first(const broker::Reply& reply, Sockets sockets, bool cut_off);
  void on_joined();
  void on_failure(Error error);
  void cancel(std::uint32_t id);
  void arm_deadline();
  void keep_alive_until_batch_ends();

  EventLoop& loop_;
  std::shared_ptr<BrokerLauncher> launcher_;
  UniqueFd userns_;
  broker::Home home_;
  std::optional<Running> process_;
  std::deque<Call> calls_;  ///< the first in_flight_ of them have been sent
  std::size_t in_flight_ = 0;
  std::uint32_t last_id_ = 0;
  Duration pause_{};  ///< before the next start; 0 since the last success
  TimePoint not_before_ = TimePoint::min();
  std::uint64_t failures_ = 0;
  Timer work_;
  Timer deadline_;
};

/// The user on whose behalf namespaces are entered.
struct NamespaceOwner {
  uid_t uid = 0;
  bool privileged = false;  ///< has CAP_SYS_ADMIN in the daemon's user namespace
  [[nodiscard]] static NamespaceOwner this_process();
};

// All brokers of the daemon: one for each user namespace that is a direct child of the daemon's
// own, which serves every network namespace of that user namespace and of those below it; and one
// for the daemon's own, if it is privileged there. Owned by main, outlives the clients. A broker
// lives as long as its client has an owner; the set itself owns none. It knows nothing of
// containers.
class BrokerSet {
 public:
  BrokerSet(EventLoop& loop, std::shared_ptr<BrokerLauncher> launcher, NamespaceOwner owner);

  /// The broker that can make sockets in this network namespace; its first call starts it. The
  /// caller must keep it as long as the container lives. All containers of one user namespace share
  /// a broker.
  /// @param netns borrowed
  /// @return EPERM: the namespace is above the daemon's user namespace, belongs to another user, or
  /// belongs to the daemon's own user namespace without privilege in it; ENOTTY: not a namespace
  [[nodiscard]] Result<std::shared_ptr<BrokerClient>> enter(int netns);

  /// Processes of the brokers that run now. Discovery must not mistake their home namespaces for
  /// containers.
  [[nodiscard]] std::vector<pid_t> pids() const;
  [[nodiscard]] std::uint64_t failures() const;  ///< failures of all brokers in use

 private:
  EventLoop& loop_;
  std::shared_ptr<BrokerLauncher> launcher_;
  NamespaceOwner owner_;
  /// Brokers in use, by the inode of the user namespace that each has joined.
  std::map<std::uint64_t, std::weak_ptr<BrokerClient>> brokers_;
};

}  // namespace portfwd
