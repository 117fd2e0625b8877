#include "forward/host_port_holder.h"

#include <fmt/format.h>

#include <algorithm>

#include "discover/names.h"
#include "kernel/sock_diag.h"

namespace portfwd {

namespace {

constexpr std::size_t kMaxLinks = 65536;  ///< descriptors worth looking at, of all programs

/// A listener on a wildcard keeps everybody else off the port, one of IPv6 off the IPv4 one too.
bool keeps_off(const DiagSocket& listener, const Endpoint& wanted) {
  if (listener.local.port != wanted.port) return false;
  return listener.local.address == wanted.address || listener.local.address.is_any();
}

}  // namespace

std::string HostPortHolder::holder_of(Protocol protocol, const Endpoint& endpoint) const {
  auto diag = SockDiag::open();
  if (!diag) return "";
  const auto listeners = diag->listeners(protocol);
  if (!listeners) return "";
  const auto holder =
      std::ranges::find_if(*listeners, [&](const DiagSocket& l) { return keeps_off(l, endpoint); });
  if (holder == listeners->end()) return "";

  std::vector<ProcDir::Entry> processes;
  (void)proc_.list(processes);  // without it the uid must do
  std::vector<pid_t> pids;
  for (const ProcDir::Entry& entry : processes) pids.push_back(entry.pid);
  std::string name = names::printable(proc_.socket_owner(pids, holder->inode, kMaxLinks));
  return name.empty() ? fmt::format("a program of uid {}", holder->uid) : name;
}

}  // namespace portfwd
