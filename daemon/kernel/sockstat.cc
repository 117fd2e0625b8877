#include "kernel/sockstat.h"

#include <array>

#include "kernel/proc_net.h"

namespace portfwd {

namespace {

/// The lines asked for are the first or second one; the rest need not fit.
Result<std::uint32_t> in_use(const UniqueFd& fd, std::string_view label) {
  std::array<char, 192> buffer;
  const ssize_t n = ::pread(fd.get(), buffer.data(), buffer.size(), 0);
  if (n < 0) return fail("pread(sockstat)");
  const auto count = parse_in_use({buffer.data(), static_cast<std::size_t>(n)}, label);
  if (!count) return fail("sockstat", EBADMSG);
  return *count;
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

Result<SocketsInUse> Sockstat::read() const {
  const auto tcp = in_use(v4_, "TCP");
  if (!tcp) return std::unexpected(tcp.error());
  if (!v6_.valid()) return SocketsInUse{*tcp, 0};
  const auto tcp6 = in_use(v6_, "TCP6");
  if (!tcp6) return std::unexpected(tcp6.error());
  return SocketsInUse{*tcp, *tcp6};
}

}  // namespace portfwd
