
#include "broker/client/broker_client.h"

#include <linux/netlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <span>

#include "base/log.h"
#include "base/unique_fd.h"
#include "broker/client/broker_launcher.h"
#include "kernel/netns.h"

namespace portfwd {

namespace {

using broker::Op;
using broker::Reply;
using broker::Request;
using broker::Step;

constexpr int kLargestErrno = 4095;  // linux/err.h, MAX_ERRNO

Request sockets(int family, int type, int protocol, std::uint32_t count) {
  Request request;
  request.op = Op::Sockets;
  request.family = family;
  request.type = type;
  request.protocol = protocol;
  request.count = count;
  return request;
}

std::uint32_t expected_count(const Request& request) {
  if (request.op == Op::Join || request.op == Op::UnixRemove) return 0;
  return request.op == Op::Sockets ? request.count : 1;
}

bool is_failure(const Reply& r) {
  return r.error > 0 && r.error <= kLargestErrno && r.step > Step::None &&
         r.step <= broker::kLastStep && r.count == 0;
}

/// Whether what the reply says about files fits the request.
bool files_are_sound(const Reply& r, const Request& request) {
  const bool failed_at_path = r.error != 0 && request.op >= Op::UnixConnect;
  if (r.found > broker::kLastFileKind) return false;
  if (r.found != broker::FileKind::None && !failed_at_path) return false;
  const bool bound_path = r.error == 0 && request.op == Op::UnixListen && request.name_size == 0;
  if (!bound_path) return r.bound == broker::BoundFile{};
  return r.bound.file != broker::FileId{} && r.bound.parents <= broker::kMostParents;
}

}  // namespace

Request stream_sockets(Family family, std::uint32_t count) {
  return sockets(address_family(family), SOCK_STREAM, 0, count);
}

Request datagram_sockets(Family family, std::uint32_t count) {
  return sockets(address_family(family), SOCK_DGRAM, 0, count);
}

Request sock_diag_sockets(std::uint32_t count) {
  return sockets(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG, count);
}

Request listener(Protocol protocol, const Endpoint& local, int backlog, bool v6only) {
  Request request;
  request.op = Op::Listen;
  request.family = address_family(local.address.family());
  request.type = protocol == Protocol::Tcp ? SOCK_STREAM : SOCK_DGRAM;
  request.port = local.port;
  request.backlog = backlog;
  request.v6only = v6only ? 1 : 0;
  std::memcpy(request.address, local.address.data(), local.address.size());
  return request;
}

Request bound_stream(const Endpoint& local) {
  return listener(Protocol::Tcp, local, -1, true);
}

std::optional<Reply> parse_reply(std::span<const std::byte> bytes, const Request& request) {
  Reply reply;
  if (bytes.size() != sizeof reply) return std::nullopt;
  std::memcpy(&reply, bytes.data(), sizeof reply);
  if (reply.version != broker::kVersion || reply.id != request.id) return std::nullopt;
  const bool success = reply.error == 0 && reply.step == Step::None;
  if (success ? reply.count != expected_count(request) : !is_failure(reply)) return std::nullopt;
  if (!files_are_sound(reply, request)) return std::nullopt;
  return reply;
}

std::string_view name_of(Step step) {
  switch (step) {
    case Step::None:
      return "none";
    case Step::Request:
      return "broker request";
    case Step::JoinUser:
      return "setns to the user namespace";
    case Step::MakeHome:
      return "unshare of a network namespace";
    case Step::Capabilities:
      return "capset";
    case Step::Seccomp:
      return "seccomp";
    case Step::EnterNet:
      return "setns to the network namespace";
    case Step::Socket:
      return "socket";
    case Step::SetOption:
      return "setsockopt";
    case Step::Bind:
      return "bind";
    case Step::Listen:
      return "listen";
    case Step::OpenPath:
      return "openat2";
    case Step::Connect:
      return "connect";
    case Step::Chown:
      return "chown";
    case Step::MakeFolder:
      return "mkdir";
    case Step::Rename:
      return "rename";
    case Step::Unlink:
      return "unlink";
    case Step::SetIds:
      return "setresuid";
  }
  return "broker";
}

namespace {

/// Enough to keep a broker busy, and few enough for any socket buffer and descriptor limit.
constexpr std::size_t kMostInFlight = 8;

constexpr Error kDied{ECONNRESET, BrokerClient::kOwnOp};
constexpr Error kTimedOut{ETIMEDOUT, BrokerClient::kOwnOp};
constexpr Error kInvalidReply{EBADMSG, BrokerClient::kOwnOp};

/// Whether the broker has closed its end. The loop may not have seen that yet when a request is
/// sent.
bool peer_closed(const Error& error) {
  return error.code == EPIPE || error.code == ECONNRESET;
}

}  // namespace

BrokerCall::~BrokerCall() {
  if (const auto client = client_.lock()) client->cancel(id_);
}

BrokerClient::BrokerClient(EventLoop& loop, std::shared_ptr<BrokerLauncher> launcher,
                           UniqueFd userns, broker::Home home)
    : loop_(loop),
      launcher_(std::move(launcher)),
      userns_(std::move(userns)),
      home_(home),
      work_(loop, [this] { work(); }),
      deadline_(loop, [this] { on_failure(kTimedOut); }) {}

BrokerClient::~BrokerClient() {
  if (!process_) return;
  process_->source.disarm();
  launcher_->discard(std::move(process_->process));
}

BrokerCall BrokerClient::call(const broker::Request& request, int fd, Done done) {
  assert(done != nullptr);
  return call(request, fd,
              ReplyDone([done = std::move(done)](Result<Sockets> sockets, const Reply&) mutable {
                done(std::move(sockets));
              }));
}

BrokerCall BrokerClient::call(const broker::Request& request, int fd, ReplyDone done) {
  Call& added = calls_.emplace_back();
  added.request = request;
  added.request.id = ++last_id_ == 0 ? ++last_id_ : last_id_;
  added.fd = fd;
  added.done = std::move(done);
  if (!work_.armed()) work_.arm_now();
  return {weak_from_this(), added.request.id};
}

/// Keeps this object until the batch ends: a callback may release the last owner while a member
/// function runs.
void BrokerClient::keep_alive_until_batch_ends() {
  struct KeepAlive final : Retirable {
    explicit KeepAlive(std::shared_ptr<BrokerClient> client) : client_(std::move(client)) {}
    std::shared_ptr<BrokerClient> client_;
  };
  loop_.retire(std::make_unique<KeepAlive>(shared_from_this()));
}

void BrokerClient::work() {
  if (calls_.empty()) return;
  if (!process_ && loop_.now() < not_before_) {
    work_.arm_at(not_before_);
    return;
  }
  if (!process_ && !start()) return;
  if (const auto sent = send_waiting(); !sent) on_failure(sent.error());
}

bool BrokerClient::start() {
  auto launched = launcher_->launch();
  if (!launched) {
    on_failure(launched.error());
    return false;
  }
  process_.emplace(loop_, std::move(*launched), static_cast<IoHandler&>(*this));
  if (const auto watched = process_->source.watch(EPOLLIN); !watched) {
    on_failure(watched.error());
    return false;
  }
  Call& join = calls_.emplace_front();
  join.request.op = broker::Op::Join;
  join.request.home = home_;
  join.request.id = ++last_id_ == 0 ? ++last_id_ : last_id_;
  join.fd = userns_.get();
  join.done = [this](const Result<Sockets>& joined, const Reply&) {
    if (!joined) on_failure(joined.error());
  };
  return true;
}

Result<void> BrokerClient::send_waiting() {
  while (in_flight_ < std::min(kMostInFlight, calls_.size())) {
    Call& call = calls_[in_flight_];
    const auto bytes = std::as_bytes(std::span(&call.request, 1));
    const std::span<const int> along(&call.fd, call.fd >= 0 ? 1 : 0);
    const auto sent = send_with_fds(process_->process.socket.get(), bytes, along);
    if (!sent) return std::unexpected(peer_closed(sent.error()) ? kDied : sent.error());
    const bool joins = call.request.op == broker::Op::Join;
    call.deadline = loop_.now() + (joins ? launcher_->join_timeout() : kDeadline);
    ++in_flight_;
  }
  arm_deadline();
  return {};
}

void BrokerClient::arm_deadline() {
  if (in_flight_ == 0) {
    deadline_.disarm();
  } else {
    deadline_.arm_at(calls_.front().deadline);
  }
}

void BrokerClient::on_io(IoSource&, std::uint32_t) {
  keep_alive_until_batch_ends();
  while (process_ && receive_one()) {
  }
  if (!process_) return;
  if (const auto sent = send_waiting(); !sent) on_failure(sent.error());
}

/// Receives one reply.
/// @return false when there is none now, or the broker has failed
bool BrokerClient::receive_one() {
  broker::Reply bytes;
  ReceivedMessage got = receive_with_fds(process_->process.socket.get(),
                                         std::as_writable_bytes(std::span(&bytes, 1)));
  if (got.outcome == ReceivedMessage::Outcome::Nothing) return false;
  if (got.outcome == ReceivedMessage::Outcome::End) return on_failure(kDied), false;
  const auto reply = in_flight_ == 0
                         ? std::nullopt
                         : parse_reply(std::as_bytes(std::span(&bytes, 1)).first(got.size),
                                       calls_.front().request);
  const bool complete = reply && !got.bytes_cut_off && got.fds.size() == reply->count;
  // Only the descriptor limit of this process can truncate a reply: the buffer has room for as many
  // as one message can carry.
  const bool cut_off = reply && got.fds_cut_off && got.fds.size() < reply->count;
  if (!complete && !cut_off) return on_failure(kInvalidReply), false;
  complete_first(*reply, std::move(got.fds), cut_off);
  return true;
}

void BrokerClient::complete_first(const broker::Reply& reply, Sockets sockets, bool cut_off) {
  Call call = std::move(calls_.front());
  calls_.pop_front();
  --in_flight_;
  if (call.request.op == broker::Op::Join) {
    on_joined();
  } else {
    pause_ = {};
  }
  arm_deadline();
  Result<Sockets> result = std::move(sockets);
  if (cut_off) result = fail("recvmsg", EMFILE);
  if (reply.error != 0) result = fail(name_of(reply.step), reply.error);
  if (call.done) call.done(std::move(result), reply);
}

/// Restarts the deadlines of requests that were sent after the join: the broker reads them only
/// now.
void BrokerClient::on_joined() {
  for (std::size_t i = 0; i < in_flight_; ++i) calls_[i].deadline = loop_.now() + kDeadline;
}

void BrokerClient::on_failure(Error error) {
  keep_alive_until_batch_ends();
  ++failures_;
  const bool again = pause_ > Duration::zero();  // no success since the last failure
  log::write(again ? log::Level::Debug : log::Level::Warning,
             fmt::format("socket broker failed: {}; another one starts when needed{}", error.text(),
                         and_remedy_of_shortage(error)),
             {{"MESSAGE_ID", std::string(log::message_id::kBrokerFailed)}});
  if (process_) {
    process_->source.disarm();
    launcher_->discard(std::move(process_->process));
    process_.reset();
  }
  pause_ = std::clamp(2 * pause_, kShortestPause, kLongestPause);
  not_before_ = loop_.now() + pause_;
  in_flight_ = 0;
  deadline_.disarm();
  for (Call& call : std::exchange(calls_, {})) {
    if (!call.done || call.request.op == broker::Op::Join) continue;
    call.done(std::unexpected(error), Reply());
  }
}

void BrokerClient::cancel(std::uint32_t id) {
  const auto it = std::ranges::find(calls_, id, [](const Call& c) { return c.request.id; });
  if (it == calls_.end()) return;
  if (it - calls_.begin() < static_cast<std::ptrdiff_t>(in_flight_)) {
    it->done = nullptr;
  } else {
    calls_.erase(it);
  }
}

NamespaceOwner NamespaceOwner::this_process() {
  return {::geteuid(), privileged_here()};
}

BrokerSet::BrokerSet(EventLoop& loop, std::shared_ptr<BrokerLauncher> launcher,
                     NamespaceOwner owner)
    : loop_(loop), launcher_(std::move(launcher)), owner_(owner) {}

Result<std::shared_ptr<BrokerClient>> BrokerSet::enter(int netns) {
  auto gate = entry_userns_of(netns);
  if (!gate) return std::unexpected(gate.error());
  const bool is_owners = gate->userns.valid() && gate->owner == owner_.uid;
  if (!owner_.privileged && !is_owners) return fail("setns", EPERM);
  const std::uint64_t inode = gate->inode;
  if (const auto known = brokers_.find(inode); known != brokers_.end()) return known->second.lock();
  const auto forget = [this, inode](BrokerClient* client) {
    brokers_.erase(inode);  // before the inode can be reused for another user namespace
    delete client;
  };
  std::shared_ptr<BrokerClient> client(new BrokerClient(loop_, launcher_, std::move(gate->userns)),
                                       forget);
  brokers_.emplace(inode, client);
  return client;
}

std::vector<pid_t> BrokerSet::pids() const {
  std::vector<pid_t> pids;
  for (const auto& [inode, broker] : brokers_) {
    const auto client = broker.lock();
    if (client && client->pid() != 0) pids.push_back(client->pid());
  }
  return pids;
}

std::uint64_t BrokerSet::failures() const {
  std::uint64_t sum = 0;
  for (const auto& [inode, broker] : brokers_) {
    if (const auto client = broker.lock()) sum += client->failures();
  }
  return sum;
}

}  // namespace portfwd
