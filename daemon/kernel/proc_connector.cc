// See proc_connector.h.
#include "kernel/proc_connector.h"

#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace portfwd {
namespace {

/// PROC_EVENT_EXEC. The headers of Linux 6.5 define it inside proc_event, later ones beside it.
constexpr std::uint32_t kExec = 2;

/// `struct proc_input` of Linux 6.6, which older headers lack. An older kernel ignores the request
/// because of its length. That is intended: it would send every fork and exit too.
struct Request {
  std::uint32_t operation = PROC_CN_MCAST_LISTEN;
  std::uint32_t events = kExec;
};
constexpr std::size_t kEventAt = NLMSG_HDRLEN + sizeof(cn_msg);
constexpr std::size_t kDataAt = kEventAt + offsetof(proc_event, event_data);

std::uint32_t word_at(std::span<const std::byte> bytes, std::size_t at) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

Result<void> subscribe(int fd) {
  std::array<std::byte, kEventAt + sizeof(Request)> bytes{};
  nlmsghdr header{};
  header.nlmsg_len = static_cast<std::uint32_t>(bytes.size());
  header.nlmsg_type = NLMSG_DONE;
  header.nlmsg_pid = 0;
  cn_msg message{};
  message.id = {CN_IDX_PROC, CN_VAL_PROC};
  message.len = sizeof(Request);
  const Request request;
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + NLMSG_HDRLEN, &message, sizeof message);
  std::memcpy(bytes.data() + kEventAt, &request, sizeof request);
  if (::send(fd, bytes.data(), bytes.size(), 0) < 0) return fail("send");
  return {};
}

}  // namespace

std::optional<pid_t> parse_exec_event(std::span<const std::byte> datagram) {
  if (datagram.size() < kDataAt + 2 * sizeof(std::uint32_t)) return std::nullopt;
  cn_msg message{};
  std::memcpy(&message, datagram.data() + NLMSG_HDRLEN, sizeof message);
  if (message.id.idx != CN_IDX_PROC || message.id.val != CN_VAL_PROC) return std::nullopt;
  if (word_at(datagram, kEventAt) != kExec) return std::nullopt;
  const auto pid = static_cast<pid_t>(word_at(datagram, kDataAt + sizeof(std::uint32_t)));
  if (pid <= 0) return std::nullopt;
  return pid;
}

Result<ProcConnector> ProcConnector::open() {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_CONNECTOR));
  if (!fd.valid()) return fail("socket");
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = CN_IDX_PROC;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail("bind");
  }
  if (auto asked = subscribe(fd.get()); !asked) return std::unexpected(asked.error());
  return ProcConnector(std::move(fd));
}

ProcConnector::Batch ProcConnector::drain(std::size_t limit) {
  Batch batch;
  for (std::size_t i = 0; i < limit; ++i) {
    std::array<std::byte, 512> buffer;
    sockaddr_nl from{};
    socklen_t length = sizeof from;
    const ssize_t n = ::recvfrom(fd_.get(), buffer.data(), buffer.size(), 0,
                                 reinterpret_cast<sockaddr*>(&from), &length);
    if (n < 0 && errno == ENOBUFS) batch.lost = true;
    if (n < 0 && errno != ENOBUFS && errno != EINTR) break;
    ++batch.events;
    if (n < 0 || from.nl_pid != 0) continue;  // not from the kernel
    const auto pid = parse_exec_event({buffer.data(), static_cast<std::size_t>(n)});
    if (pid) batch.execs.push_back(*pid);
  }
  std::ranges::sort(batch.execs);
  batch.execs.erase(std::ranges::unique(batch.execs).begin(), batch.execs.end());
  return batch;
}

}  // namespace portfwd
