#include "kernel/net_snmp.h"

#include <array>

#include "kernel/proc_net.h"

namespace portfwd {

/// Two lines that begin with "Tcp:": the names of the columns, and below each its value.
std::optional<std::uint64_t> parse_tcp_opens(std::string_view text) {
  std::string_view names;
  while (!text.empty() && !names.starts_with("Tcp:")) names = proc_net::next_line(text);
  std::string_view values = proc_net::next_line(text);
  if (!names.starts_with("Tcp:") || !values.starts_with("Tcp:")) return std::nullopt;
  std::uint64_t sum = 0;
  int found = 0;
  while (true) {
    const std::string_view name = proc_net::next_word(names);
    const std::string_view value = proc_net::next_word(values);
    if (name.empty() || value.empty()) break;
    if (name != "ActiveOpens" && name != "PassiveOpens") continue;
    const auto opens = proc_net::number<std::uint64_t>(value);
    if (!opens) return std::nullopt;
    sum += *opens;
    ++found;
  }
  if (found != 2) return std::nullopt;
  return sum;
}

Result<NetSnmp> NetSnmp::open(pid_t pid, std::uint64_t netns) {
  auto file = proc_net::open(pid, "snmp");
  if (!file) return std::unexpected(file.error());
  if (!proc_net::is_in(pid, netns)) return fail("snmp", ESRCH);
  return NetSnmp(std::move(*file));
}

Result<std::uint64_t> NetSnmp::tcp_opens() const {
  std::array<char, 4096> buffer;
  const auto text = proc_net::read(file_.get(), buffer);
  if (!text) return std::unexpected(text.error());
  const auto opens = parse_tcp_opens(*text);
  if (!opens) return fail("snmp", EBADMSG);
  return *opens;
}

}  // namespace portfwd
