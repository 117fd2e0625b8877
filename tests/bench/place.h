// Address of a listener or connection in a benchmark: a port of an IPv4 address, or a Unix path. A
// value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "net/address.h"

namespace portfwd::bench {

struct Place {
  std::string address = "127.0.0.1";
  std::uint16_t port = 0;
  std::string path = {};  ///< used instead of the others unless empty

  [[nodiscard]] SockAddr sockaddr() const;
  /// "127.0.0.1:80", or the path with the prefix that the reader of the text expects.
  [[nodiscard]] std::string text(std::string_view before_path = "") const;
};

/// @param flags for socket(2), such as SOCK_NONBLOCK @return a stream socket
[[nodiscard]] UniqueFd make_socket(const Place& place, int flags = 0);
/// Port 0: a free one. Ends the program when the place is in use.
[[nodiscard]] UniqueFd listen_at(const Place& place, int flags = 0);
[[nodiscard]] std::uint16_t port_of(const UniqueFd& socket);

}  // namespace portfwd::bench
