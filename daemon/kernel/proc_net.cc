#include "kernel/proc_net.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_addr.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <bit>
#include <iterator>
#include <ranges>
#include <string>

namespace portfwd::proc_net {

Result<UniqueFd> open(pid_t pid, const char* file) {
  UniqueFd fd(::open(fmt::format("/proc/{}/net/{}", pid, file).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return fail("open(/proc/PID/net)");
  return fd;
}

bool is_in(pid_t pid, std::uint64_t netns) {
  struct stat st {};
  if (netns == 0) return true;
  if (::stat(fmt::format("/proc/{}/ns/net", pid).c_str(), &st) != 0) return errno == EACCES;
  return st.st_ino == netns;
}

Result<std::string_view> read(int fd, std::span<char> buffer) {
  std::size_t filled = 0;
  while (filled < buffer.size()) {
    const ssize_t n =
        ::pread(fd, buffer.data() + filled, buffer.size() - filled, static_cast<off_t>(filled));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail("pread(/proc/PID/net)");
    if (n == 0) break;
    filled += static_cast<std::size_t>(n);
  }
  return std::string_view(buffer.data(), filled);
}

Result<std::string> read_all(int fd, std::size_t most) {
  std::string text(16384, '\0');
  while (true) {
    const auto got = read(fd, text);
    if (!got) return std::unexpected(got.error());
    if (got->size() < text.size() || text.size() >= most) {
      text.resize(got->size());
      return text;
    }
    text.resize(text.size() * 4);
  }
}

std::string_view next_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

std::string_view next_word(std::string_view& line) {
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  const std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(word.size());
  return word;
}
}  // namespace portfwd::proc_net

namespace portfwd {

namespace {

constexpr unsigned kGlobalScope = 0;  // net/ipv6.h, IPV6_ADDR_SCOPE_MASK of a global address

/// Parses an address in the form of if_inet6, "20010db8000000000000000000000002".
std::optional<IpAddress> parse_hex(std::string_view word) {
  std::array<std::uint8_t, 16> network{};
  if (word.size() != 2 * network.size()) return std::nullopt;
  for (std::size_t i = 0; i < network.size(); ++i) {
    const auto byte = proc_net::number<std::uint8_t>(word.substr(2 * i, 2), 16);
    if (!byte) return std::nullopt;
    network[i] = *byte;
  }
  return IpAddress::from_network(Family::V6, network.data());
}

}  // namespace

/// A leaf is "|-- ADDRESS", then a line for each route to it, such as "/32 host LOCAL".
std::vector<IpAddress> parse_fib_trie(std::string_view text) {
  std::vector<IpAddress> found;
  std::optional<IpAddress> leaf;
  while (!text.empty()) {
    std::string_view line = proc_net::next_line(text);
    const std::string_view first = proc_net::next_word(line);
    const std::string_view second = proc_net::next_word(line);
    if (first == "|--") leaf = IpAddress::parse(second);
    const bool own = first == "/32" && second == "host" && proc_net::next_word(line) == "LOCAL";
    if (!own || !leaf || leaf->is_loopback()) continue;
    if (std::ranges::find(found, *leaf) == found.end()) found.push_back(*leaf);  // in two tables
  }
  return found;
}

/// Columns: address interface prefix scope flags name.
std::vector<IpAddress> parse_if_inet6(std::string_view text) {
  std::vector<IpAddress> found;
  while (!text.empty()) {
    std::string_view line = proc_net::next_line(text);
    std::array<std::string_view, 5> column;
    for (std::string_view& word : column) word = proc_net::next_word(line);
    const auto address = parse_hex(column[0]);
    const auto scope = proc_net::number<unsigned>(column[3], 16);
    const auto flags = proc_net::number<unsigned>(column[4], 16);
    const bool usable = flags && (*flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) == 0;
    if (address && scope == kGlobalScope && usable) found.push_back(*address);
  }
  return found;
}

Result<ProcNetAddresses> ProcNetAddresses::open(pid_t pid) {
  auto v4 = proc_net::open(pid, "fib_trie");
  if (!v4) return std::unexpected(v4.error());
  auto v6 = proc_net::open(pid, "if_inet6");
  if (!v6 && v6.error().code != ENOENT) return std::unexpected(v6.error());
  return ProcNetAddresses(std::move(*v4), v6 ? std::move(*v6) : UniqueFd{});
}

std::vector<IpAddress> ProcNetAddresses::read() const {
  const auto v4 = proc_net::read_all(v4_.get());
  auto all = v4 ? parse_fib_trie(*v4) : std::vector<IpAddress>{};
  const auto v6 = v6_.valid() ? proc_net::read_all(v6_.get()) : fail("if_inet6", ENOENT);
  if (v6) std::ranges::copy(parse_if_inet6(*v6), std::back_inserter(all));
  return all;
}

namespace {

/// Parses "0100007F:1F90": the address in 32-bit words whose bytes in memory are in network order,
/// and the port as a number.
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

/// Columns: sl local remote st tx:rx tr:tm retrnsmt uid timeout inode ...
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

namespace {

constexpr std::size_t kMostUnixText = std::size_t{4} << 20;
constexpr std::uint32_t kAcceptsClients = 0x10000;  // __SO_ACCEPTCON of linux/net.h

std::optional<SocketType> socket_type(std::string_view word) {
  const auto type = proc_net::number<std::uint32_t>(word, 16);
  if (type == std::uint32_t{SOCK_STREAM}) return SocketType::Stream;
  if (type == std::uint32_t{SOCK_SEQPACKET}) return SocketType::Seqpacket;
  return std::nullopt;
}

std::optional<Address> parse_unix_name(std::string_view name) {
  if (name.starts_with('@')) {
    name.remove_prefix(1);
    if (name.empty() || name.size() > kLongestUnixName) return std::nullopt;
    return AbstractName{std::string(name)};
  }
  if (name.empty() || name.size() > kLongestUnixName + 1) return std::nullopt;
  return UnixPath{std::string(name)};
}

/// Columns: address references protocol flags type state inode name. One blank precedes the name,
/// which may begin with blanks.
std::optional<DiagUnixSocket> parse_unix_row(std::string_view line) {
  std::array<std::string_view, 7> column;
  for (std::string_view& word : column) word = proc_net::next_word(line);
  const auto flags = proc_net::number<std::uint32_t>(column[3], 16);
  const auto type = socket_type(column[4]);
  const auto inode = proc_net::number<std::uint32_t>(column[6]);
  if (!column[0].ends_with(':') || !flags || !type || !inode || *inode == 0) return std::nullopt;
  if ((*flags & kAcceptsClients) == 0 || !line.starts_with(' ')) return std::nullopt;
  auto name = parse_unix_name(line.substr(1));
  if (!name) return std::nullopt;
  DiagUnixSocket out;
  out.name = std::move(*name);
  out.type = *type;
  out.uid = kUnknownUid;
  out.inode = *inode;
  return out;
}

}  // namespace

std::vector<DiagUnixSocket> parse_unix_table(std::string_view text) {
  std::vector<DiagUnixSocket> found;
  while (!text.empty() && found.size() < kMostUnixListeners) {
    if (auto row = parse_unix_row(proc_net::next_line(text))) found.push_back(std::move(*row));
  }
  return found;
}

Result<ProcNetUnix> ProcNetUnix::open(pid_t pid, std::uint64_t netns) {
  auto file = proc_net::open(pid, "unix");
  if (!file) return std::unexpected(file.error());
  if (!proc_net::is_in(pid, netns)) return fail("/proc/PID/net/unix", ESRCH);
  return ProcNetUnix(std::move(*file));
}

Result<std::vector<DiagUnixSocket>> ProcNetUnix::listeners() const {
  const auto text = proc_net::read_all(file_.get(), kMostUnixText);
  if (!text) return std::unexpected(text.error());
  return parse_unix_table(*text);
}

namespace {

constexpr std::size_t kEnough = 192;  // bytes: the lines that are read are among the first three

/// Counts of one file. All sockets of the namespace are in that of IPv4.
struct InUse {
  std::uint32_t tcp = 0;
  std::uint32_t udp = 0;
  std::uint32_t all = 0;
};

Result<InUse> in_use(const UniqueFd& fd, bool v6) {
  std::array<char, kEnough> buffer;
  const ssize_t n = ::pread(fd.get(), buffer.data(), buffer.size(), 0);
  if (n < 0) return fail("pread(sockstat)");
  const std::string_view text(buffer.data(), static_cast<std::size_t>(n));
  const auto streams = parse_in_use(text, v6 ? "TCP6" : "TCP");
  const auto datagrams = parse_in_use(text, v6 ? "UDP6" : "UDP");
  const auto all = v6 ? std::optional(0U) : parse_in_use(text, "sockets");
  if (!streams || !datagrams || !all) return fail("sockstat", EBADMSG);
  return InUse{*streams, *datagrams, *all};
}

}  // namespace

std::optional<std::uint32_t> parse_in_use(std::string_view text, std::string_view label) {
  while (!text.empty()) {
    const bool whole = text.contains('\n');
    std::string_view line = proc_net::next_line(text);
    std::string_view name = proc_net::next_word(line);
    if (!whole || !name.ends_with(':')) continue;
    name.remove_suffix(1);
    if (name != label) continue;
    const std::string_view counted = proc_net::next_word(line);
    if (counted != "inuse" && counted != "used") continue;
    return proc_net::number<std::uint32_t>(proc_net::next_word(line));
  }
  return std::nullopt;
}

Result<Sockstat> Sockstat::open(pid_t pid, std::uint64_t netns) {
  auto v4 = proc_net::open(pid, "sockstat");
  if (!v4) return std::unexpected(v4.error());
  auto v6 = proc_net::open(pid, "sockstat6");
  if (!v6 && v6.error().code != ENOENT) return std::unexpected(v6.error());
  if (!proc_net::is_in(pid, netns)) return fail("sockstat", ESRCH);
  return Sockstat(std::move(*v4), v6 ? std::move(*v6) : UniqueFd{});
}

Result<SocketsInUse> Sockstat::read(bool udp) const {
  const auto v4 = in_use(v4_, false);
  if (!v4) return std::unexpected(v4.error());
  const auto v6 = v6_.valid() ? in_use(v6_, true) : InUse{};
  if (!v6) return std::unexpected(v6.error());
  const std::uint64_t ports = std::uint64_t{v4->tcp} + v4->udp + v6->tcp + v6->udp;
  const std::uint64_t all = std::max<std::uint64_t>(v4->all, ports);
  return SocketsInUse{v4->tcp, v6->tcp, udp ? v4->udp : 0, udp ? v6->udp : 0,
                      static_cast<std::uint32_t>(all - ports)};
}

}  // namespace portfwd
