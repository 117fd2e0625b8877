// The protocol as the daemon sees it: what it asks as values, made into requests, and replies
// checked before anybody believes them. Pure; it sends nothing.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "base/error.h"
#include "broker/protocol.h"
#include "net/endpoint.h"

namespace portfwd {

/// Sockets to connect with, at most broker::kMaxCount of them.
[[nodiscard]] broker::Request stream_sockets(Family family, std::uint32_t count);
[[nodiscard]] broker::Request datagram_sockets(Family family, std::uint32_t count);
/// Netlink sockets for NETLINK_SOCK_DIAG. Uids in its dumps are as the joined user namespace
/// counts.
[[nodiscard]] broker::Request sock_diag_sockets(std::uint32_t count);

/// @param backlog for Protocol::Tcp; @param v6only counts for IPv6 only
[[nodiscard]] broker::Request listener(Protocol protocol, const Endpoint& local, int backlog,
                                       bool v6only);

/// A stream socket that does not listen yet: until it does, nobody else sees it. IPv6 alone with an
/// IPv6 address.
[[nodiscard]] broker::Request bound_stream(const Endpoint& local);

/// @param path absolute in the container's root. ENAMETOOLONG, EINVAL.
[[nodiscard]] Result<broker::Request> unix_connection(std::string_view path);

struct UnixOwner {
  uid_t uid = 0;  ///< as the container counts
  gid_t gid = 0;
  mode_t mode = 0600;
};
[[nodiscard]] Result<broker::Request> unix_listener(std::string_view path, const UnixOwner& owner,
                                                    int backlog);

/// @return nothing unless the bytes are a reply to `request` that could be true: size, version, id,
/// and a failure with an errno and a step or the count that was asked for. Descriptors are counted
/// by the caller.
[[nodiscard]] std::optional<broker::Reply> parse_reply(std::span<const std::byte> bytes,
                                                       const broker::Request& request);

/// Such as "setns" for Step::EnterNet; the op of an Error.
[[nodiscard]] std::string_view name_of(broker::Step step);

}  // namespace portfwd
