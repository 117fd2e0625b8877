// Whose is the client that has just connected? Loopback is open to every user of the machine, so
// each accepted connection is asked after at the kernel, by its exact pair of addresses. Owned by
// main, borrowed by every ForwardPort. It decides nothing but yes or no and resets nobody.
//
// Of a client on another machine nothing can be known: whether such are let in is one switch, for
// all of them. A client of this machine is examined by whatever address it came, so that listening
// on the network does not open the door to the machine's other users.
//
// The answer counts only for a *live* owner, by four conditions that belong together:
//  - the socket found is neither a listener nor in TIME_WAIT (the lookup falls back to those), nor
//    one that only now begins to connect from the same port;
//  - its inode is not 0: before Linux 6.16 a socket that was closed shows as uid 0, which taken at
//    face value would let in everybody who sends and closes;
//  - our own socket is not in CLOSE *after* the lookup: while it lives, nobody else can own its
//    4-tuple, but after a reset another user may have taken over the port;
//  - the uid has a name in our user namespace: the overflow uid stands for anybody.
// The price: a client that connects, writes and closes at once is often refused.
//
// Of a datagram the kernel does not say who sent it. What can be asked is who would get the answer:
// the socket bound to the address that it came from, right now. So nobody but the user gets an
// answer. But another user may send in the name of a socket of this user's (an own socket on
// another address of this machine with the same port, IP_PKTINFO), and may take over its port when
// it closes: a sender is examined again every now and then. What comes in the name of a host port
// of a forward is nobody's: its answer would go to that forward, and the next answer come back, for
// ever. Source: inet_diag_find_one_icsk in net/ipv4/inet_diag.c; tests/second_user.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/sock_diag.h"

namespace portfwd {

// The subordinate user ids of one user, from /etc/subuid: inside rootless containers they are
// other users, on the host they are this user's. Owned by ClientIdentity. It knows no sockets.
// Source: subuid(5).
struct UidRange {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  [[nodiscard]] bool contains(uid_t uid) const { return uid >= first && uid - first < count; }
  friend bool operator==(const UidRange&, const UidRange&) = default;
};

/// The ranges of the lines that name `user` or `uid`. A line that is not NAME:FIRST:COUNT counts
/// for nothing.
[[nodiscard]] std::vector<UidRange> parse_subuids(std::string_view text, std::string_view user,
                                                  uid_t uid);

/// Reads the file when it is first asked, and again when it has changed.
class Subuids {
 public:
  /// @param user login name, may be empty when it cannot be known
  Subuids(std::filesystem::path file, std::string user, uid_t uid)
      : file_(std::move(file)), user_(std::move(user)), uid_(uid) {}
  /// A file that cannot be read holds no ranges.
  [[nodiscard]] bool contains(uid_t uid);

 private:
  void refresh();

  std::filesystem::path file_;
  std::string user_;
  uid_t uid_;
  struct stat seen_ {};  ///< of the file when it was read; all zero before
  std::vector<UidRange> ranges_;
};

/// Whom one forward lets in, besides its user's own clients, those of its subuids, and root's.
struct Admission {
  bool restrict_to_user = true;    ///< false: every user of this machine
  std::vector<uid_t> allow_users;  ///< these too
  bool allow_remote = false;       ///< clients of other machines
  friend bool operator==(const Admission&, const Admission&) = default;
};

struct ClientVerdict {
  enum class Standing : std::uint8_t { LetIn, Foreign, Unidentified, Remote };
  Standing standing = Standing::Unidentified;
  std::optional<uid_t> uid;  ///< nothing: not asked, or no live owner could be found
  std::uint32_t inode = 0;   ///< of the client's socket; 0 without a uid
  std::string trouble{};     ///< why the kernel could not be asked, remedy included, or ""
  [[nodiscard]] bool let_in() const { return standing == Standing::LetIn; }
};

/// Whom all forwards together refused since the start, by the reason.
struct RefusedClients {
  std::uint64_t foreign = 0;
  std::uint64_t unidentified = 0;
  std::uint64_t remote = 0;
};

class ClientIdentity {
 public:
  /// @param diag made in the network namespace and the user namespace of the listeners
  /// @param owner whose clients are let in, besides root and the owner's subuids
  /// @param modules borrowed; null: the kernel has them
  ClientIdentity(SockDiag diag, uid_t owner, Subuids subuids, const DiagModules* modules = nullptr)
      : diag_(std::move(diag)), subuids_(std::move(subuids)), owner_(owner), modules_(modules) {}

  /// To be asked right after accept(2), before one byte is read. Synchronous, a few µs.
  /// @param client, ours both ends as accept(2) and the listener have them: the socket itself
  /// forgets them with a reset. A wildcard `ours` is looked up.
  [[nodiscard]] ClientVerdict examine(int accepted, const Endpoint& client, const Endpoint& ours,
                                      const Admission& admission);
  /// Of whoever sent a datagram. To be asked before it is passed on, and again now and then.
  /// @param ours what it was sent to
  [[nodiscard]] ClientVerdict examine_sender(const Endpoint& client, const Endpoint& ours,
                                             const Admission& admission);
  /// The same of one that was let in, before it gets more answers: not counted as refused.
  /// @param inode of its socket then: another socket is another client, whoever owns it
  [[nodiscard]] bool still_let_in(const Endpoint& client, const Endpoint& ours,
                                  const Admission& admission, std::uint32_t inode);
  /// A host port of UDP, while a forward has it.
  void add_port(const Endpoint& bound) { ports_.insert(bound); }
  void remove_port(const Endpoint& bound) { ports_.erase(bound); }

  /// Why clients can't be identified, remedy included; "" when they can.
  [[nodiscard]] std::string trouble(Protocol protocol) const {
    return modules_ == nullptr ? "" : modules_->trouble(protocol);
  }
  [[nodiscard]] const RefusedClients& refused() const { return refused_; }

 private:
  template <class LiveOwner>
  [[nodiscard]] ClientVerdict judge(Protocol protocol, const Endpoint& client,
                                    const Admission& admission, const LiveOwner& live_owner);
  [[nodiscard]] ClientVerdict judge_sender(const Endpoint& client, const Endpoint& ours,
                                           const Admission& admission);
  ClientVerdict counted(const ClientVerdict& verdict);
  [[nodiscard]] bool is_port_of_a_forward(const Endpoint& client) const;
  [[nodiscard]] std::optional<SocketOwner> live_owner(int accepted, const Endpoint& client,
                                                      const Endpoint& ours);
  [[nodiscard]] std::optional<SocketOwner> owner_of_sender(const Endpoint& client,
                                                           const Endpoint& ours);

  SockDiag diag_;
  Subuids subuids_;
  uid_t owner_;
  const DiagModules* modules_;
  std::set<Endpoint> ports_;
  RefusedClients refused_;
};

}  // namespace portfwd
