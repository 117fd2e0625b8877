// Identification of the local user who owns an accepted connection. Every user of the machine can
// connect to loopback, so the kernel is queried about each accepted connection, by its exact pair
// of addresses. Owned by RelayParts, borrowed by every forward port. It returns a verdict and
// resets nothing.
//
// The owner of a client on another machine cannot be identified: one setting allows all of them or
// none. A client on this machine is examined at every source address, so that a forward that
// listens on the network is not open to the machine's other users.
//
// The answer is used only for a *live* owner, by four conditions that are all needed:
//  - The socket found is neither a listener nor in TIME_WAIT (the lookup falls back to those), nor
//    one that is still connecting from the same port.
//  - Its inode is not 0: before Linux 6.16 a socket that was closed is reported with uid 0, which
//    would allow every client that sends and closes.
//  - Our own socket is not in CLOSE *after* the lookup. Until then no other socket can have its
//    4-tuple, but after a reset another user may have taken over the port.
//  - The uid is mapped in our user namespace: the overflow uid stands for any user.
// The cost: a client that connects, writes and closes at once is often refused.
//
// The kernel does not report the sender of a datagram. It can report which socket would receive the
// answer: the one that is bound to the source address, at this moment. So only the user's own
// sockets get answers. But another user may send with the source address of a socket of this user
// (from a socket on another address of this machine with the same port, with IP_PKTINFO), and may
// take over the port when that socket closes. So a sender is examined again at intervals. A
// datagram from the host port of a forward is refused: the answer would go to that forward, and its
// answer would return, without end. Source: inet_diag_find_one_icsk in net/ipv4/inet_diag.c;
// tests/second_user.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cassert>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/sock_diag.h"

namespace portfwd {

struct UidRange {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  [[nodiscard]] bool contains(uid_t uid) const { return uid >= first && uid - first < count; }
  friend bool operator==(const UidRange&, const UidRange&) = default;
};

/// The ranges in the lines of /etc/subuid that name `user` or `uid`. A line that is not
/// NAME:FIRST:COUNT is skipped.
[[nodiscard]] std::vector<UidRange> parse_subuids(std::string_view text, std::string_view user,
                                                  uid_t uid);

/// The subordinate user ids of one user. Inside rootless containers they are other users; on the
/// host they belong to this user. Reads /etc/subuid on first use, and again when it has changed.
/// Owned by ClientIdentity. Source: subuid(5).
class Subuids {
 public:
  /// @param user login name, or "" if it is not known
  Subuids(std::filesystem::path file, std::string user, uid_t uid)
      : file_(std::move(file)), user_(std::move(user)), uid_(uid) {}
  /// Whether `uid` is in one of the ranges. A file that cannot be read contains none.
  [[nodiscard]] bool contains(uid_t uid);

 private:
  void refresh();

  std::filesystem::path file_;
  std::string user_;
  uid_t uid_;
  struct stat file_when_read_ {};  ///< state of the file when it was read; all zero before
  std::vector<UidRange> ranges_;
};

/// The clients that one forward allows, besides those of its user, of the user's subuids, and of
/// root.
struct Admission {
  bool restrict_to_user = true;    ///< false: every user of this machine
  std::vector<uid_t> allow_users;  ///< allowed as well
  bool allow_remote = false;       ///< clients of other machines
  friend bool operator==(const Admission&, const Admission&) = default;
};

struct ClientVerdict {
  enum class Kind : std::uint8_t { Allowed, OtherUser, Unidentified, Remote };
  Kind kind = Kind::Unidentified;
  std::optional<uid_t> uid;  ///< nothing: not looked up, or there is no live owner
  std::uint32_t inode = 0;   ///< of the client's socket; 0 without a uid
  std::string trouble{};     ///< why the kernel cannot be queried, with the remedy, or ""
  [[nodiscard]] bool allowed() const { return kind == Kind::Allowed; }
};

/// Numbers of clients that all forwards together have refused since the start, by reason.
struct RefusedClients {
  std::uint64_t other_user = 0;
  std::uint64_t unidentified = 0;
  std::uint64_t remote = 0;
};

class ClientIdentity {
 public:
  /// @param diag created in the network namespace and the user namespace of the listeners
  /// @param owner the user whose clients are allowed, besides those of root and of the subuids
  /// @param modules borrowed; null: assumed to be available
  ClientIdentity(SockDiag diag, uid_t owner, Subuids subuids, const DiagModules* modules = nullptr)
      : diag_(std::move(diag)), subuids_(std::move(subuids)), owner_(owner), modules_(modules) {}

  /// Examines a client; for use directly after accept(2), before a byte is read. Synchronous, takes
  /// a few µs. Counts a refusal.
  /// @param client, local_end both ends, from accept(2) and the listener: after a reset the socket
  /// no longer has them. If `local_end` is a wildcard, the local address is looked up. For a Unix
  /// socket neither is used: the kernel has recorded who connected it (SO_PEERCRED).
  [[nodiscard]] ClientVerdict examine(int accepted, const Address& client, const Address& local_end,
                                      const Admission& admission);
  /// Examines the sender of a datagram, before it is relayed. Counts a refusal.
  /// @param ours the address and port that it was sent to
  [[nodiscard]] ClientVerdict examine_sender(const Endpoint& client, const Endpoint& local_end,
                                             const Admission& admission);
  /// Examines a sender again that was allowed; for use at intervals. Does not count a refusal.
  /// @param inode ClientVerdict::inode of that time. Another socket is another client, even if the
  /// same user owns it.
  [[nodiscard]] bool is_still_allowed(const Endpoint& client, const Endpoint& local_end,
                                      const Admission& admission, std::uint32_t inode);
  /// Registers an address and UDP port to which a forward is bound, until remove_port().
  void add_port(const Endpoint& bound) {
    [[maybe_unused]] const bool added = ports_.insert(bound).second;
    assert(added);
  }
  void remove_port(const Endpoint& bound) {
    [[maybe_unused]] const auto removed = ports_.erase(bound);
    assert(removed == 1);
  }

  /// Why clients cannot be identified, with the remedy; "" if they can.
  [[nodiscard]] std::string trouble(Protocol protocol) const {
    const bool asks = protocol != Protocol::Unix;  // a Unix socket has its client's uid
    return asks && modules_ != nullptr ? modules_->trouble(protocol) : "";
  }
  [[nodiscard]] const RefusedClients& refused() const { return refused_; }

 private:
  template <class LiveOwner>
  [[nodiscard]] ClientVerdict judge(Protocol protocol, const Endpoint& client,
                                    const Admission& admission, const LiveOwner& live_owner);
  [[nodiscard]] ClientVerdict judge_sender(const Endpoint& client, const Endpoint& local_end,
                                           const Admission& admission);
  [[nodiscard]] bool admits(uid_t uid, const Admission& admission);
  [[nodiscard]] ClientVerdict judge_tcp(int accepted, const Endpoint& client,
                                        const Endpoint& local_end, const Admission& admission);
  [[nodiscard]] ClientVerdict judge_unix(int accepted, const Admission& admission);
  ClientVerdict count_refusal(const ClientVerdict& verdict);
  [[nodiscard]] bool is_forward_port(const Endpoint& client) const;
  [[nodiscard]] std::optional<SocketOwner> live_owner(int accepted, const Endpoint& client,
                                                      const Endpoint& local_end);
  [[nodiscard]] std::optional<SocketOwner> owner_of_sender(const Endpoint& client,
                                                           const Endpoint& local_end);

  SockDiag diag_;
  Subuids subuids_;
  uid_t owner_;
  const DiagModules* modules_;
  std::set<Endpoint> ports_;
  RefusedClients refused_;
};

}  // namespace portfwd
