
#include "relay/client_identity.h"

#include <netinet/tcp.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/small_file.h"
#include "kernel/netns.h"
#include "kernel/stream.h"

namespace portfwd {

namespace {

/// Removes the text up to and including `mark`, or all of it. @return the text before `mark`
std::string_view split_off_until(std::string_view& text, char mark) {
  const auto end = std::min(text.find(mark), text.size());
  const std::string_view head = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return head;
}

std::optional<std::uint32_t> parse_number(std::string_view text) {
  std::uint32_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return value;
}

bool same_file_state(const struct stat& a, const struct stat& b) {
  return a.st_ino == b.st_ino && a.st_dev == b.st_dev && a.st_size == b.st_size &&
         a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

}  // namespace

std::vector<UidRange> parse_subuids(std::string_view text, std::string_view user, uid_t uid) {
  const std::string number = std::to_string(uid);
  std::vector<UidRange> ranges;
  while (!text.empty()) {
    std::string_view line = split_off_until(text, '\n');
    const std::string_view owner = split_off_until(line, ':');
    if (owner.empty() || (owner != user && owner != number)) continue;
    const auto first = parse_number(split_off_until(line, ':'));
    const auto count = parse_number(line);
    if (first && count) ranges.push_back({*first, *count});
  }
  return ranges;
}

bool Subuids::contains(uid_t uid) {
  refresh();
  return std::ranges::any_of(ranges_, [&](const UidRange& range) { return range.contains(uid); });
}

void Subuids::refresh() {
  struct stat now {};
  if (::stat(file_.c_str(), &now) != 0) now = {};
  if (same_file_state(now, file_when_read_)) return;
  ranges_ = parse_subuids(read_small_file(file_.string()).value_or(""), user_, uid_);
  file_when_read_ = now;
}

namespace {

using Kind = ClientVerdict::Kind;

constexpr uid_t kOverflowUid = 65534;  // Source: user_namespaces(7)

bool is_connected_state(std::uint8_t state) {
  switch (state) {
    case TCP_ESTABLISHED:
    case TCP_FIN_WAIT1:
    case TCP_FIN_WAIT2:
    case TCP_CLOSE_WAIT:
    case TCP_LAST_ACK:
    case TCP_CLOSING:
      return true;
    default:
      return false;
  }
}

/// Cheaper than TCP_INFO, which gathers hundreds of bytes.
/// Test: StreamFacts.ASocketHasNoPeerAfterAReset
bool is_closed(int socket) {
  return !peer_endpoint(socket);
}

}  // namespace

/// @param live_owner called only if the owner decides
template <class LiveOwner>
ClientVerdict ClientIdentity::judge(Protocol protocol, const Endpoint& client,
                                    const Admission& admission, const LiveOwner& live_owner) {
  if (!may_be_own_address(client.address)) {
    return {.kind = admission.allow_remote ? Kind::Allowed : Kind::Remote};
  }
  if (!admission.restrict_to_user) return {.kind = Kind::Allowed};
  if (modules_ != nullptr && !modules_->of(protocol)) {
    return {.kind = Kind::Unidentified, .trouble = trouble(protocol)};
  }
  const std::optional<SocketOwner> owner = live_owner();
  if (!owner) return {.kind = Kind::Unidentified};
  return {.kind = admits(owner->uid, admission) ? Kind::Allowed : Kind::OtherUser,
          .uid = owner->uid,
          .inode = owner->inode};
}

bool ClientIdentity::admits(uid_t uid, const Admission& admission) {
  return uid == owner_ || uid == 0 || subuids_.contains(uid) ||
         std::ranges::count(admission.allow_users, uid) != 0;
}

ClientVerdict ClientIdentity::count_refusal(const ClientVerdict& verdict) {
  refused_.other_user += verdict.kind == Kind::OtherUser ? 1 : 0;
  refused_.unidentified += verdict.kind == Kind::Unidentified ? 1 : 0;
  refused_.remote += verdict.kind == Kind::Remote ? 1 : 0;
  return verdict;
}

ClientVerdict ClientIdentity::examine(int accepted, const Address& client, const Address& local_end,
                                      const Admission& admission) {
  const auto* from = std::get_if<Endpoint>(&client);
  const auto* to = std::get_if<Endpoint>(&local_end);
  const bool tcp = from != nullptr && to != nullptr;
  return count_refusal(tcp ? judge_tcp(accepted, *from, *to, admission)
                           : judge_unix(accepted, admission));
}

ClientVerdict ClientIdentity::judge_tcp(int accepted, const Endpoint& client,
                                        const Endpoint& local_end, const Admission& admission) {
  return judge(Protocol::Tcp, client, admission, [&] {
    const bool wildcard = local_end.address.is_any();
    const Endpoint local = wildcard ? local_endpoint(accepted).value_or(local_end) : local_end;
    return live_owner(accepted, client, local);
  });
}

/// The recorded uid is that at connect(2), even if another process has the socket now. A uid that
/// is not mapped in our user namespace reads as the overflow uid.
ClientVerdict ClientIdentity::judge_unix(int accepted, const Admission& admission) {
  if (!admission.restrict_to_user) return {.kind = Kind::Allowed};
  const auto uid = peer_uid(accepted);
  if (!uid || *uid == kOverflowUid) return {.kind = Kind::Unidentified};
  return {.kind = admits(*uid, admission) ? Kind::Allowed : Kind::OtherUser, .uid = uid};
}

ClientVerdict ClientIdentity::examine_sender(const Endpoint& client, const Endpoint& local_end,
                                             const Admission& admission) {
  return count_refusal(judge_sender(client, local_end, admission));
}

bool ClientIdentity::is_still_allowed(const Endpoint& client, const Endpoint& local_end,
                                      const Admission& admission, std::uint32_t inode) {
  const ClientVerdict now = judge_sender(client, local_end, admission);
  return now.allowed() && now.inode == inode;
}

ClientVerdict ClientIdentity::judge_sender(const Endpoint& client, const Endpoint& local_end,
                                           const Admission& admission) {
  if (is_forward_port(client)) return {.kind = Kind::Unidentified};
  return judge(Protocol::Udp, client, admission,
               [&] { return owner_of_sender(client, local_end); });
}

bool ClientIdentity::is_forward_port(const Endpoint& client) const {
  if (ports_.contains(client)) return true;
  const Endpoint everywhere{IpAddress::any(client.address.family()), client.port};
  return ports_.contains(everywhere) && may_be_own_address(client.address);
}

std::optional<SocketOwner> ClientIdentity::live_owner(int accepted, const Endpoint& client,
                                                      const Endpoint& local_end) {
  const auto found = diag_.lookup(client, local_end);
  if (!found || !*found) return std::nullopt;
  const SocketOwner& owner = **found;
  if (!is_connected_state(owner.state) || owner.inode == 0) return std::nullopt;
  if (owner.uid == kOverflowUid || is_closed(accepted)) return std::nullopt;
  return owner;
}

std::optional<SocketOwner> ClientIdentity::owner_of_sender(const Endpoint& client,
                                                           const Endpoint& local_end) {
  const auto found = diag_.lookup(client, local_end, Protocol::Udp);
  if (!found || !*found) return std::nullopt;
  const SocketOwner& owner = **found;
  if (owner.inode == 0 || owner.uid == kOverflowUid) return std::nullopt;
  return owner;
}

}  // namespace portfwd
