#include "service/notify_socket.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace portfwd {

/// Source: sd_notify(3), unix(7). An abstract name begins with a NUL and has no end of its own.
NotifySocket::NotifySocket(const char* address) {
  const std::string_view name = address == nullptr ? "" : address;
  sockaddr_un to{AF_UNIX, {}};
  const bool known = name.starts_with('/') || name.starts_with('@');
  if (!known || name.size() >= sizeof to.sun_path) return;
  name.copy(to.sun_path, name.size());
  if (name.front() == '@') to.sun_path[0] = '\0';
  address_.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  std::memcpy(&address_.storage, &to, sizeof to);
  fd_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

bool NotifySocket::send(std::string_view assignments) const {
  if (!fd_.valid()) return true;
  return ::sendto(fd_.get(), assignments.data(), assignments.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                  address_.get(), address_.length) >= 0 ||
         errno != EAGAIN;  // a manager that has gone hears nothing, ever
}

}  // namespace portfwd
