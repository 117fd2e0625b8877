#include "relay/client_identity.h"

#include <netinet/tcp.h>

#include <algorithm>

#include "kernel/own_address.h"
#include "kernel/stream.h"

namespace portfwd {

namespace {

using Standing = ClientVerdict::Standing;

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
/// Test: StreamFacts.OneWhosePeerHasResetHasNoPeerAnyMore
bool is_closed(int socket) {
  return !peer_endpoint(socket);
}

}  // namespace

ClientVerdict ClientIdentity::examine(int accepted, const Endpoint& client, const Endpoint& ours,
                                      const Admission& admission) {
  const ClientVerdict verdict = judge(accepted, client, ours, admission);
  refused_.foreign += verdict.standing == Standing::Foreign ? 1 : 0;
  refused_.unidentified += verdict.standing == Standing::Unidentified ? 1 : 0;
  refused_.remote += verdict.standing == Standing::Remote ? 1 : 0;
  return verdict;
}

ClientVerdict ClientIdentity::judge(int accepted, const Endpoint& client, const Endpoint& ours,
                                    const Admission& admission) {
  if (!may_be_own_address(client.address)) {
    return {admission.allow_remote ? Standing::LetIn : Standing::Remote, std::nullopt};
  }
  if (!admission.restrict_to_user) return {Standing::LetIn, std::nullopt};
  const bool wildcard = ours.address.is_any();
  const Endpoint local = wildcard ? local_endpoint(accepted).value_or(ours) : ours;
  const std::optional<uid_t> uid = live_owner(accepted, client, local);
  if (!uid) return {Standing::Unidentified, std::nullopt};
  const bool welcome = *uid == owner_ || *uid == 0 || subuids_.contains(*uid) ||
                       std::ranges::count(admission.allow_users, *uid) != 0;
  return {welcome ? Standing::LetIn : Standing::Foreign, uid};
}

std::optional<uid_t> ClientIdentity::live_owner(int accepted, const Endpoint& client,
                                                const Endpoint& ours) {
  const auto found = diag_.lookup(client, ours);
  if (!found || !*found) return std::nullopt;
  const SocketOwner& owner = **found;
  if (!is_connected_state(owner.state) || owner.inode == 0) return std::nullopt;
  if (owner.uid == kOverflowUid || is_closed(accepted)) return std::nullopt;
  return owner.uid;
}

}  // namespace portfwd
