#include "kernel/proc_net_addresses.h"

#include <linux/if_addr.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "kernel/proc_net.h"

namespace portfwd {

namespace {

constexpr unsigned kGlobalScope = 0;  // net/ipv6.h, IPV6_ADDR_SCOPE_MASK of a global address

/// "20010db8000000000000000000000002", as if_inet6 has it.
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
    if (std::ranges::find(found, *leaf) == found.end()) found.push_back(*leaf);  // of two tables
  }
  return found;
}

/// address interface prefix scope flags name
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

}  // namespace portfwd
