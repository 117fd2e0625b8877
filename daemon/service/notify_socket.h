// The way to the service manager: datagrams to $NOTIFY_SOCKET, never waited for. sd_notify(3) would
// wait while a busy manager reads nothing, and every connection with it. Owned by ManagerNotifier.
#pragma once

#include <string_view>

#include "base/unique_fd.h"
#include "net/endpoint.h"

namespace portfwd {

class NotifySocket {
 public:
  /// @param address value of $NOTIFY_SOCKET: a path, or "@" and an abstract name; null or anything
  /// else: there is no manager
  explicit NotifySocket(const char* address);

  /// @return false when the manager's queue is full: say it again later
  [[nodiscard]] bool send(std::string_view assignments) const;

 private:
  UniqueFd fd_;  ///< invalid without a manager
  SockAddr address_;
};

}  // namespace portfwd
