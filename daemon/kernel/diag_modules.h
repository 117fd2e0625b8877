// Whether the kernel answers questions about TCP and UDP sockets: tcp_diag, udp_diag and inet_diag
// are modules on many kernels, and may be kept from loading or be gone until the next boot. Owned
// by main; looks at the start and, while one is missing, every kPause. Whoever needs an answer asks
// here first: a question about a missing module has the kernel start modprobe each time.
//
// Nothing stands in for them. /proc/net/tcp has owner and inode of a client too, but each read
// walks every socket of the namespace, whoever made it: 13 ms with hardly any, 65 ms with 8000 more
// (measured on 6.18, 262144 buckets). Any local user can make more, and each client costs a read.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <utility>

#include "event/event_loop.h"
#include "kernel/sock_diag.h"

namespace portfwd {

class DiagModules {
 public:
  static constexpr Duration kPause = std::chrono::seconds(30);

  /// Asks the kernel about a socket of this protocol: SockDiag::self_test().
  using Probe = std::move_only_function<Result<void>(Protocol)>;
  DiagModules(EventLoop& loop, Probe probe);
  DiagModules(const DiagModules&) = delete;
  DiagModules& operator=(const DiagModules&) = delete;

  /// @param on_change called from the loop when of() says something else
  void set_observer(std::function<void()> on_change) { on_change_ = std::move(on_change); }

  /// At the last look.
  [[nodiscard]] const Result<void>& of(Protocol protocol) const {
    return found_[static_cast<std::size_t>(protocol)];
  }
  /// What it means for clients that must be identified, remedy included; "" when they can be.
  [[nodiscard]] std::string trouble(Protocol protocol) const;

 private:
  void look();

  Probe probe_;
  std::function<void()> on_change_ = [] {};
  std::array<Result<void>, 2> found_;  ///< by protocol
  Timer again_;
};

}  // namespace portfwd
