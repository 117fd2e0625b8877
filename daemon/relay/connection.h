// A connection whose target has accepted, as its StreamPort sees it, and the interface of what
// relays connections: this process (Relay, through LocalCarrier), or a process of its own.
//
// A peer can make any process wait that reads, splices or closes a Unix socket: it attaches a
// descriptor whose close(2) waits. So this process must not do any of these with a Unix socket
// whose other end may be a container's. It passes the socket on instead, with carry() or discard().
// Source: unix(7), SO_LINGER in socket(7); platform test UnixDescriptors.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/unique_fd.h"
#include "event/event_loop.h"
#include "net/address.h"

namespace portfwd {

/// Numbers of clients and bytes of one forward. Owned by its ForwardPort.
struct Counters {
  std::uint64_t active = 0;    ///< connections or flows at present
  std::uint64_t total = 0;     ///< clients that were authorized
  std::uint64_t failed = 0;    ///< clients that the target refused or that could not be relayed
  std::uint64_t refused = 0;   ///< clients that were not authorized
  std::uint64_t bytes_in = 0;  ///< towards the container
  std::uint64_t bytes_out = 0;

  friend bool operator==(const Counters&, const Counters&) = default;
};

struct RelayRecord;

/// Owned by its StreamPort, retired when it is over.
class RelayedConnection : public Retirable {
 public:
  /// Starts to relay. Must be called once. RelayGroup::on_over may be called from within. Fails if
  /// the connection cannot be relayed; then it must be aborted.
  [[nodiscard]] virtual Result<void> start() = 0;
  /// Resets both sides at once, without a call of on_over.
  virtual void abort() = 0;
  /// The client's socket, if the target has reset the connection soon after it was connected and
  /// before either side sent a byte: a server that closes does so with connections in its backlog,
  /// and the client can be dialled for again. Otherwise invalid. For use when it is over.
  [[nodiscard]] virtual UniqueFd release_turned_away() { return {}; }
  /// Moves the connection into a record, without a call of on_over. Must not be over, and must not
  /// be used afterwards. @return nothing if another process relays it
  [[nodiscard]] virtual std::optional<RelayRecord> save() = 0;

  std::uint32_t index = 0;     ///< the owner's; see SlotVector
  std::uint32_t burst = 0;     ///< the owner's; see LoopGuard
  Family family = Family::V4;  ///< the owner's: of the client
  bool redialled = false;      ///< the owner's: see WaitingClient

 protected:
  bool turned_away_ = false;  ///< release_turned_away() returns the client; here it costs no space
};

/// What the connections of one owner share. A connection that is over no longer uses it.
struct RelayGroup {
  Counters& counters;  ///< bytes_in: accepted by the target; bytes_out: by the client
  /// The last call of a connection: its sockets are closed, except one that release_turned_away()
  /// returns. May retire the connection, must not destroy it.
  std::move_only_function<void(RelayedConnection& over)> on_over;
  std::uint64_t fds_refused = 0;  ///< connections that were reset because of descriptors
};

struct CarryOptions {
  bool pass_fds = false;  ///< of Unix sockets: pass descriptors on; otherwise they are refused
  bool without_pass_rights = false;  ///< act as on a kernel before Linux 6.16; for tests
};

/// Relays connections.
class Carrier {
 public:
  virtual ~Carrier() = default;
  /// @param group borrowed @param client, target connected, non-blocking
  [[nodiscard]] virtual std::unique_ptr<RelayedConnection> carry(RelayGroup& group, UniqueFd client,
                                                                 UniqueFd target,
                                                                 const CarryOptions& options) = 0;
  /// Resets and closes the socket of a connection that will not be relayed.
  virtual void discard(UniqueFd socket) = 0;
};

/// The carriers of Unix connections: one for each container, so that a container whose connections
/// make their process wait has no effect on the others.
class UnixCarriers {
 public:
  /// @param container a key of the container, such as its id
  [[nodiscard]] virtual std::shared_ptr<Carrier> of(const std::string& container) = 0;

 protected:
  ~UnixCarriers() = default;
};

}  // namespace portfwd
