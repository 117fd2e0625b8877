#include "forward/host_port_holder.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "discover/names.h"
#include "kernel/sock_diag.h"

namespace portfwd {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMaxLinks = 16384;  ///< descriptors that one look reads, of all programs
constexpr Duration kFresh = 1s;

/// A listener on a wildcard keeps everybody else off the port, one of IPv6 off the IPv4 one too.
bool keeps_off(const DiagSocket& listener, const Endpoint& wanted) {
  if (listener.local.port != wanted.port) return false;
  return listener.local.address == wanted.address || listener.local.address.is_any();
}

}  // namespace

const HostPortHolder::Seen& HostPortHolder::look(Protocol protocol) const {
  Seen& seen = seen_[protocol == Protocol::Tcp ? 0 : 1];
  if (seen.at + kFresh > clock_.now()) return seen;
  seen = {};
  seen.at = clock_.now();
  auto diag = SockDiag::open();
  if (!diag) return seen;
  auto listeners = diag->listeners(protocol);
  if (!listeners) return seen;
  seen.listeners = std::move(*listeners);
  std::set<std::uint64_t> inodes;
  for (const DiagSocket& listener : seen.listeners) inodes.insert(listener.inode);
  std::vector<ProcDir::Entry> processes;
  (void)proc_.list(processes);  // without it the uid must do
  std::vector<pid_t> pids;
  for (const ProcDir::Entry& entry : processes) pids.push_back(entry.pid);
  seen.owners = proc_.socket_owners(pids, std::move(inodes), kMaxLinks);
  return seen;
}

std::string HostPortHolder::holder_of(Protocol protocol, const Endpoint& endpoint) const {
  const Seen& seen = look(protocol);
  const auto holder = std::ranges::find_if(
      seen.listeners, [&](const DiagSocket& l) { return keeps_off(l, endpoint); });
  if (holder == seen.listeners.end()) return "";
  const auto owner = seen.owners.find(holder->inode);
  const std::string name =
      owner == seen.owners.end() ? "" : names::printable(proc_.comm(owner->second));
  return name.empty() ? fmt::format("a program of uid {}", holder->uid) : name;
}

}  // namespace portfwd
