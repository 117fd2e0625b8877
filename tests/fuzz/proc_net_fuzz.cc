// Arbitrary text files of /proc/PID/net: the readers skip or reject what is malformed.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "kernel/proc_net.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)portfwd::parse_in_use(text, "TCP");
  (void)portfwd::parse_in_use(text, "TCP6");
  (void)portfwd::parse_in_use(text, "sockets");
  const auto listeners = portfwd::parse_unix_table(text);
  if (listeners.size() > portfwd::kMostUnixListeners) std::abort();
  for (const auto& listener : listeners) {
    const std::string name = listener.name.text();
    if (name.empty() || name.find('\n') != name.npos || listener.inode == 0) std::abort();
  }
  for (const auto& address : portfwd::parse_fib_trie(text)) {
    if (address.is_loopback()) std::abort();
  }
  (void)portfwd::parse_if_inet6(text);
  for (const auto family : {portfwd::Family::V4, portfwd::Family::V6}) {
    for (const auto& socket : portfwd::parse_socket_table(text, family)) {
      if (socket.local.port == 0 && socket.cookie != 0) std::abort();
    }
  }
  return 0;
}
