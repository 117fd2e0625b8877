#include "relay_process/server.h"

#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "broker/client/broker_launcher.h"
#include "kernel/stream.h"

namespace portfwd::relay_process {

namespace {

constexpr int kMessagesPerTurn = 16;
constexpr int kPassRights = 83;  // SO_PASSRIGHTS, linux/socket.h of Linux 6.16

int option_of(int socket, int option) {
  int value = -1;
  socklen_t length = sizeof value;
  return ::getsockopt(socket, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}

bool is_unix(int socket) {
  return option_of(socket, SO_DOMAIN) == AF_UNIX;
}

/// Makes the kernel refuse descriptors to the socket's peer, with EPERM, if it can.
/// @return whether the socket may have received descriptors, which then must be noticed: those that
/// were sent before remain. Who makes the socket can set the option before it is connected.
bool may_carry_descriptors(int socket, bool without_pass_rights) {
  if (!is_unix(socket)) return false;
  if (without_pass_rights) return true;
  if (option_of(socket, kPassRights) == 0) return false;
  const int off = 0;
  (void)::setsockopt(socket, SOL_SOCKET, kPassRights, &off, sizeof off);
  return true;
}

void reset_and_close(std::vector<UniqueFd>& sockets) {
  for (const UniqueFd& socket : sockets) reset_on_close(socket.get());
  sockets.clear();
}

}  // namespace

Server::Group::Group(Server& server, std::uint32_t group_id)
    : id(group_id), relays{counters, [&server](RelayedConnection& over) {
                             server.end(over.index, false);
                           }} {}

bool Server::Group::has_news() const {
  return counters.bytes_in != reported_in || counters.bytes_out != reported_out;
}

void Server::Group::fill(Report& report) {
  report.group = id;
  report.bytes_in = counters.bytes_in - std::exchange(reported_in, counters.bytes_in);
  report.bytes_out = counters.bytes_out - std::exchange(reported_out, counters.bytes_out);
}

Server::Server(RelayContext& context, UniqueFd daemon)
    : context_(context),
      loop_(context.loop()),
      daemon_(std::move(daemon)),
      source_(loop_, daemon_.get(), *this),
      report_(loop_, [this] { report_counters(); }) {
  loop_.add_hook(*this);
}

Server::~Server() {
  loop_.remove_hook(*this);
  reset_all();
}

Result<void> Server::start() {
  return source_.watch(EPOLLIN);
}

void Server::reset_all() {
  for (auto& [id, connection] : connections_) {
    if (connection.relay) connection.relay->abort();
    if (connection.message_relay) connection.message_relay->abort();
  }
  for (Pending& pending : pending_) reset_and_close(pending.fds);
}

void Server::on_io(IoSource&, std::uint32_t events) {
  if ((events & EPOLLOUT) != 0) send_unsent();
  for (int i = 0; i < kMessagesPerTurn && receive_one(); ++i) {
  }
}

/// @return false when there is no message now, or the loop was stopped
bool Server::receive_one() {
  Request bytes;
  ReceivedMessage got =
      receive_with_fds(daemon_.get(), std::as_writable_bytes(std::span(&bytes, 1)));
  if (got.outcome == ReceivedMessage::Outcome::Nothing) return false;
  const auto whole = std::as_bytes(std::span(&bytes, 1)).first(got.size);
  // Descriptors are cut off when this process has too many. What is left of them cannot be relayed.
  const std::size_t fds = got.fds_cut_off ? kPairFds : got.fds.size();
  const auto request = got.outcome == ReceivedMessage::Outcome::End || got.bytes_cut_off
                           ? std::nullopt
                           : parse_request(whole, fds);
  if (!request) {
    loop_.stop();
    return false;
  }
  handle(*request, std::move(got.fds));
  return true;
}

void Server::handle(const Request& request, std::vector<UniqueFd> fds) {
  switch (request.op) {
    case Op::Pair:
      if (is_in_use(request.relay)) return loop_.stop();
      [[fallthrough]];
    case Op::Discard:
      pending_.push_back({request, std::move(fds)});
      return;
    case Op::Released:
      return carry_out_pending();
    case Op::Abort:
      return abort(request.relay);
  }
}

bool Server::is_in_use(std::uint32_t relay) const {
  return connections_.contains(relay) || std::ranges::any_of(pending_, [&](const Pending& p) {
           return p.request.op == Op::Pair && p.request.relay == relay;
         });
}

void Server::carry_out_pending() {
  for (Pending& pending : std::exchange(pending_, {})) {
    if (pending.request.op == Op::Pair) {
      relay(pending.request, std::move(pending.fds));
    } else {
      reset_and_close(pending.fds);
    }
    send({.news = News::Accepted});
  }
}

void Server::relay(const Request& request, std::vector<UniqueFd> fds) {
  assert(!connections_.contains(request.relay));
  connections_[request.relay].group = request.group;
  ++group(request.group).connections;
  if (fds.size() != kPairFds) {  // cut off
    reset_and_close(fds);
    return end(request.relay, true);
  }
  const int client = fds[0].get();
  const int target = fds[1].get();
  const int type = option_of(client, SO_TYPE);
  const bool both_unix = is_unix(client) && is_unix(target);
  const bool relayable = type == option_of(target, SO_TYPE) &&
                         (type == SOCK_STREAM || (type == SOCK_SEQPACKET && both_unix));
  const bool messages = type == SOCK_SEQPACKET || (request.flags & kPassFds) != 0;
  if (!relayable) {
    reset_and_close(fds);
    end(request.relay, true);
  } else if (both_unix && messages) {
    start_message_relay(request, std::move(fds[0]), std::move(fds[1]));
  } else {
    start_relay(request, std::move(fds[0]), std::move(fds[1]));
  }
}

void Server::start_relay(const Request& request, UniqueFd client, UniqueFd target) {
  const bool without = (request.flags & kWithoutPassRights) != 0;
  const bool check_client = may_carry_descriptors(client.get(), without);
  const bool check_target = may_carry_descriptors(target.get(), without);
  std::unique_ptr<Relay>& relay = connections_[request.relay].relay;
  relay = std::make_unique<Relay>(context_, group(request.group).relays, std::move(client),
                                  std::move(target));
  relay->index = request.relay;
  if (check_client) relay->refuse_descriptors_of_client();
  if (check_target) relay->refuse_descriptors_of_target();
  if (relay->start()) return;  // it may be over
  relay->abort();
  end(request.relay, true);
}

void Server::start_message_relay(const Request& request, UniqueFd client, UniqueFd target) {
  const bool pass_fds = (request.flags & kPassFds) != 0;
  const bool without = (request.flags & kWithoutPassRights) != 0;
  if (!pass_fds) {  // it notices descriptors in any case
    (void)may_carry_descriptors(client.get(), without);
    (void)may_carry_descriptors(target.get(), without);
  }
  if (!message_buffer_) message_buffer_ = std::make_unique_for_overwrite<MessageBuffer>();
  std::unique_ptr<MessageRelay>& relay = connections_[request.relay].message_relay;
  relay = std::make_unique<MessageRelay>(
      loop_, *message_buffer_, group(request.group).counters, pass_fds,
      [this, id = request.relay] { end(id, false); }, std::move(client), std::move(target));
  if (relay->start()) return;  // it may be over
  relay->abort();
  end(request.relay, true);
}

/// The relay may have ended while the request was under way.
void Server::abort(std::uint32_t id) {
  const auto it = connections_.find(id);
  if (it == connections_.end()) return;
  if (it->second.relay) it->second.relay->abort();
  if (it->second.message_relay) it->second.message_relay->abort();
  end(id, false);
}

/// Forgets a connection, whose sockets are closed, and reports its end.
void Server::end(std::uint32_t id, bool failed) {
  auto node = connections_.extract(id);
  assert(!node.empty());
  Connection& over = node.mapped();
  Report report{.news = News::Ended, .relay = id, .failed = failed ? 1U : 0U};
  if (over.relay) {
    UniqueFd turned_away = over.relay->release_turned_away();  // the daemon does not dial again
    if (turned_away.valid()) reset_on_close(turned_away.get());
    report.fds_refused = over.relay->has_refused_descriptors() ? 1 : 0;
    loop_.retire(std::move(over.relay));
  }
  if (over.message_relay) {
    report.fds_refused = over.message_relay->has_refused_descriptors() ? 1 : 0;
    loop_.retire(std::move(over.message_relay));
  }
  Group& own = group(over.group);
  own.fill(report);
  assert(own.connections > 0);
  if (--own.connections == 0) loop_.retire(std::move(groups_.extract(own.id).mapped()));
  send(report);
}

Server::Group& Server::group(std::uint32_t id) {
  std::unique_ptr<Group>& known = groups_[id];
  if (!known) known = std::make_unique<Group>(*this, id);
  return *known;
}

void Server::before_wait() {
  if (report_.armed()) return;
  const bool news =
      std::ranges::any_of(groups_, [](const auto& g) { return g.second->has_news(); });
  if (news) report_.arm_after(std::chrono::milliseconds(kReportIntervalMs));
}

void Server::report_counters() {
  for (const auto& [id, group] : groups_) {
    if (!group->has_news()) continue;
    Report report{.news = News::Counters};
    group->fill(report);
    send(report);
  }
}

void Server::send(const Report& report) {
  unsent_.push_back(report);
  if (unsent_.size() == 1) send_unsent();
}

/// The daemon closing its end is noticed when its end of file is received.
void Server::send_unsent() {
  std::size_t sent = 0;
  while (sent < unsent_.size() &&
         send_some(daemon_.get(), std::as_bytes(std::span(&unsent_[sent], 1))).moved()) {
    ++sent;
  }
  unsent_.erase(unsent_.begin(), unsent_.begin() + static_cast<std::ptrdiff_t>(sent));
  if (!source_.watch(unsent_.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT)) loop_.stop();
}

}  // namespace portfwd::relay_process
