#include "kernel/proc_net_sockets.h"

#include <fcntl.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <array>
#include <bit>
#include <iterator>
#include <ranges>
#include <string>

#include "kernel/proc_net.h"

namespace portfwd {

namespace {

/// "0100007F:1F90": the address in 32-bit words as the machine has them in memory, the port plain.
std::optional<Endpoint> parse_endpoint(std::string_view word, Family family) {
  const std::size_t digits = family == Family::V4 ? 8 : 32;
  if (word.size() != digits + 5 || word[digits] != ':') return std::nullopt;
  std::array<std::uint32_t, 4> network{};
  for (std::size_t i = 0; i < digits / 8; ++i) {
    const auto value = proc_net::number<std::uint32_t>(word.substr(i * 8, 8), 16);
    if (!value) return std::nullopt;
    network[i] = *value;
  }
  const auto port = proc_net::number<std::uint16_t>(word.substr(digits + 1), 16);
  if (!port) return std::nullopt;
  return Endpoint{IpAddress::from_network(family, network.data()), *port};
}

/// sl local remote st tx:rx tr:tm retrnsmt uid timeout inode ...
std::optional<DiagSocket> parse_row(std::string_view line, Family family) {
  std::array<std::string_view, 10> column;
  for (std::string_view& word : column) word = proc_net::next_word(line);
  const auto local = parse_endpoint(column[1], family);
  const auto remote = parse_endpoint(column[2], family);
  const auto state = proc_net::number<std::uint8_t>(column[3], 16);
  const auto uid = proc_net::number<std::uint32_t>(column[7]);
  const auto inode = proc_net::number<std::uint32_t>(column[9]);
  if (!local || !remote || !state || !uid || !inode) return std::nullopt;
  DiagSocket socket;
  socket.local = *local;
  socket.remote = *remote;
  socket.state = *state;
  socket.uid = *uid;
  socket.inode = *inode;
  return socket;
}

}  // namespace

std::vector<DiagSocket> parse_socket_table(std::string_view text, Family family) {
  std::vector<DiagSocket> found;
  while (!text.empty()) {
    if (const auto socket = parse_row(proc_net::next_line(text), family)) found.push_back(*socket);
  }
  return found;
}

Result<ProcNetSockets> ProcNetSockets::open(pid_t pid, std::uint64_t netns, Protocol protocol) {
  const bool tcp = protocol == Protocol::Tcp;
  auto v4 = proc_net::open(pid, tcp ? "tcp" : "udp");
  if (!v4) return std::unexpected(v4.error());
  auto v6 = proc_net::open(pid, tcp ? "tcp6" : "udp6");
  if (!v6 && v6.error().code != ENOENT) return std::unexpected(v6.error());
  if (!proc_net::is_in(pid, netns)) return fail("/proc/PID/net", ESRCH);
  return ProcNetSockets(std::move(*v4), v6 ? std::move(*v6) : UniqueFd{},
                        tcp ? std::uint8_t{TCP_LISTEN} : kUdpUnconnected);
}

Result<ProcNetSockets> ProcNetSockets::copy() const {
  UniqueFd v4(::fcntl(v4_.get(), F_DUPFD_CLOEXEC, 0));
  if (!v4.valid()) return fail("fcntl");
  UniqueFd v6;
  if (v6_.valid()) {
    v6 = UniqueFd(::fcntl(v6_.get(), F_DUPFD_CLOEXEC, 0));
    if (!v6.valid()) return fail("fcntl");
  }
  return ProcNetSockets(std::move(v4), std::move(v6), listening_);
}

Result<std::vector<DiagSocket>> ProcNetSockets::read() const {
  const auto text = proc_net::read_all(v4_.get());
  if (!text) return std::unexpected(text.error());
  auto found = parse_socket_table(*text, Family::V4);
  if (!v6_.valid()) return found;
  const auto text6 = proc_net::read_all(v6_.get());
  if (!text6) return std::unexpected(text6.error());
  std::ranges::move(parse_socket_table(*text6, Family::V6), std::back_inserter(found));
  return found;
}

Result<std::vector<DiagSocket>> ProcNetSockets::listeners() const {
  auto found = read();
  if (found) std::erase_if(*found, [this](const DiagSocket& s) { return s.state != listening_; });
  return found;
}

Result<bool> ProcNetSockets::has_connection(const Endpoint& local, const Endpoint& remote) const {
  const auto found = read();
  if (!found) return std::unexpected(found.error());
  return std::ranges::any_of(
      *found, [&](const DiagSocket& s) { return s.local == local && s.remote == remote; });
}

Result<bool> ProcNetSockets::has_remote_port(Port port) const {
  const auto found = read();
  if (!found) return std::unexpected(found.error());
  return std::ranges::any_of(*found, [port](const DiagSocket& s) { return s.remote.port == port; });
}

}  // namespace portfwd
