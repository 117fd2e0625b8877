// A dialer for Unix sockets of the host whose paths may have variables, such as $SSH_AUTH_SOCK.
// They are read for each connection, so that it reaches the present socket of a service that was
// restarted or logged in to again. Owned by the ForwardSet.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "event/event_loop.h"
#include "net/presets.h"
#include "relay/dialer.h"
#include "relay/unix_dialer.h"

namespace portfwd {

/// The environment of the programs that the user starts on the host.
class UserEnvironment {
 public:
  /// Called once. May destroy the request.
  using OnRead = std::move_only_function<void(const VariableOf& value_of)>;
  /// A read in progress. Its destruction cancels it.
  class Read {
   public:
    virtual ~Read() = default;
  };

  /// Never calls back from within the call.
  [[nodiscard]] virtual std::unique_ptr<Read> read(OnRead on_read) = 0;

 protected:
  ~UserEnvironment() = default;
};

class HostSocketDialer final : public Dialer {
 public:
  /// @param broker of the host, environment borrowed; both must outlive every Dial
  HostSocketDialer(EventLoop& loop, PathBroker& broker, UserEnvironment& environment,
                   const ConnectOptions& options = {})
      : loop_(loop), environment_(environment), sockets_(loop, broker, options) {}

  /// @param candidates UnixPath; ENOENT if a variable is not set
  [[nodiscard]] DialStart dial(std::span<const Address> candidates, TimePoint deadline,
                               DialHandler& handler) override;

 private:
  class Attempt;

  EventLoop& loop_;
  UserEnvironment& environment_;
  UnixDialer sockets_;
};

}  // namespace portfwd
