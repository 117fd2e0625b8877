#include "broker/client/broker_messages.h"

#include <linux/netlink.h>
#include <sys/socket.h>

#include <cstring>

namespace portfwd {

namespace {

using broker::Op;
using broker::Reply;
using broker::Request;
using broker::Step;

constexpr int kLargestErrno = 4095;  // linux/err.h, MAX_ERRNO

Request sockets(int family, int type, int protocol, std::uint32_t count) {
  Request request;
  request.op = Op::Sockets;
  request.family = family;
  request.type = type;
  request.protocol = protocol;
  request.count = count;
  return request;
}

Result<Request> with_path(Op op, std::string_view path) {
  Request request;
  request.op = op;
  if (path.size() >= sizeof request.path) return fail("path", ENAMETOOLONG);
  if (!path.starts_with('/') || path.find('\0') != std::string_view::npos) {
    return fail("path", EINVAL);
  }
  std::memcpy(request.path, path.data(), path.size());
  return request;
}

std::uint32_t expected_count(const Request& request) {
  if (request.op == Op::Join) return 0;
  return request.op == Op::Sockets ? request.count : 1;
}

bool is_failure(const Reply& r) {
  return r.error > 0 && r.error <= kLargestErrno && r.step > Step::None &&
         r.step <= broker::kLastStep && r.count == 0;
}

}  // namespace

Request stream_sockets(Family family, std::uint32_t count) {
  return sockets(address_family(family), SOCK_STREAM, 0, count);
}

Request datagram_sockets(Family family, std::uint32_t count) {
  return sockets(address_family(family), SOCK_DGRAM, 0, count);
}

Request sock_diag_sockets(std::uint32_t count) {
  return sockets(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG, count);
}

Request listener(Protocol protocol, const Endpoint& local, int backlog, bool v6only) {
  Request request;
  request.op = Op::Listen;
  request.family = address_family(local.address.family());
  request.type = protocol == Protocol::Tcp ? SOCK_STREAM : SOCK_DGRAM;
  request.port = local.port;
  request.backlog = backlog;
  request.v6only = v6only ? 1 : 0;
  std::memcpy(request.address, local.address.data(), local.address.size());
  return request;
}

Request bound_stream(const Endpoint& local) {
  return listener(Protocol::Tcp, local, -1, true);
}

Result<Request> unix_connection(std::string_view path) {
  return with_path(Op::UnixConnect, path);
}

Result<Request> unix_listener(std::string_view path, const UnixOwner& owner, int backlog) {
  auto request = with_path(Op::UnixListen, path);
  if (!request) return request;
  request->uid = owner.uid;
  request->gid = owner.gid;
  request->mode = owner.mode;
  request->backlog = backlog;
  return request;
}

std::optional<Reply> parse_reply(std::span<const std::byte> bytes, const Request& request) {
  Reply reply;
  if (bytes.size() != sizeof reply) return std::nullopt;
  std::memcpy(&reply, bytes.data(), sizeof reply);
  if (reply.version != broker::kVersion || reply.id != request.id) return std::nullopt;
  const bool success = reply.error == 0 && reply.step == Step::None;
  if (success ? reply.count != expected_count(request) : !is_failure(reply)) return std::nullopt;
  return reply;
}

std::string_view name_of(Step step) {
  switch (step) {
    case Step::None:
      return "none";
    case Step::Request:
      return "broker request";
    case Step::JoinUser:
      return "setns to the user namespace";
    case Step::MakeHome:
      return "unshare of a network namespace";
    case Step::Capabilities:
      return "capset";
    case Step::Seccomp:
      return "seccomp";
    case Step::EnterNet:
      return "setns to the network namespace";
    case Step::Socket:
      return "socket";
    case Step::SetOption:
      return "setsockopt";
    case Step::Bind:
      return "bind";
    case Step::Listen:
      return "listen";
    case Step::OpenPath:
      return "openat2";
    case Step::Connect:
      return "connect";
    case Step::Chown:
      return "chown";
  }
  return "broker";
}

}  // namespace portfwd
