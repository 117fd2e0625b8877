#include "kernel/sockstat.h"

#include <array>

#include "kernel/proc_net.h"

namespace portfwd {

namespace {

constexpr std::size_t kEnough = 192;  // bytes: the lines asked for are among the first three

/// Of the one family that the file is about.
struct InUse {
  std::uint32_t tcp = 0;
  std::uint32_t udp = 0;
};

Result<InUse> in_use(const UniqueFd& fd, std::string_view tcp, std::string_view udp) {
  std::array<char, kEnough> buffer;
  const ssize_t n = ::pread(fd.get(), buffer.data(), buffer.size(), 0);
  if (n < 0) return fail("pread(sockstat)");
  const std::string_view text(buffer.data(), static_cast<std::size_t>(n));
  const auto streams = parse_in_use(text, tcp);
  const auto datagrams = udp.empty() ? std::optional(0U) : parse_in_use(text, udp);
  if (!streams || !datagrams) return fail("sockstat", EBADMSG);
  return InUse{*streams, *datagrams};
}

}  // namespace

std::optional<std::uint32_t> parse_in_use(std::string_view text, std::string_view label) {
  while (!text.empty()) {
    const bool whole = text.contains('\n');
    std::string_view line = proc_net::next_line(text);
    std::string_view name = proc_net::next_word(line);
    if (!whole || !name.ends_with(':')) continue;
    name.remove_suffix(1);
    if (name != label || proc_net::next_word(line) != "inuse") continue;
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
  const auto v4 = in_use(v4_, "TCP", udp ? "UDP" : "");
  if (!v4) return std::unexpected(v4.error());
  if (!v6_.valid()) return SocketsInUse{v4->tcp, 0, v4->udp, 0};
  const auto v6 = in_use(v6_, "TCP6", udp ? "UDP6" : "");
  if (!v6) return std::unexpected(v6.error());
  return SocketsInUse{v4->tcp, v6->tcp, v4->udp, v6->udp};
}

}  // namespace portfwd
