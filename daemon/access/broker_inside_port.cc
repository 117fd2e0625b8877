#include "access/broker_inside_port.h"

#include "broker/client/broker_messages.h"
#include "kernel/sock_diag.h"

namespace portfwd {

namespace {

/// The container's network has no IPv6, or none on its lo.
bool lacks_family(const Error& error) {
  return error.code == EADDRNOTAVAIL || error.code == EAFNOSUPPORT;
}

}  // namespace

BrokerInsidePort::BrokerInsidePort(Parts parts, Port port, InsidePortHandler& handler)
    : parts_(std::move(parts)), port_(port), handler_(handler) {
  ask(Family::V4);
}

BrokerInsidePort::~BrokerInsidePort() {
  for (const std::uint32_t inode : ignored_) parts_.watch.forget(inode);
}

void BrokerInsidePort::ask(Family family) {
  call_ = parts_.broker->call(
      bound_stream({IpAddress::loopback(family), port_}), parts_.netns,
      [this, family](Result<BrokerClient::Sockets> made) { got(family, std::move(made)); });
}

void BrokerInsidePort::got(Family family, Result<BrokerClient::Sockets> made) {
  const bool optional = family == Family::V6;
  if (!made && !(optional && lacks_family(made.error()))) {
    return handler_.on_inside_port(std::unexpected(made.error()));
  }
  if (made) {
    if (const auto kept = keep(family, std::move(made->front())); !kept) {
      return handler_.on_inside_port(std::unexpected(kept.error()));
    }
  }
  if (family == Family::V4) return ask(Family::V6);
  handler_.on_inside_port(std::move(sockets_));
}

/// It does not listen yet, so no look can have seen it before it is ignored.
Result<void> BrokerInsidePort::keep(Family family, UniqueFd socket) {
  const auto inode = socket_inode(socket.get());
  if (!inode) return std::unexpected(inode.error());
  parts_.watch.ignore(*inode);
  ignored_.push_back(*inode);
  sockets_.push_back({Endpoint{IpAddress::loopback(family), port_}, std::move(socket)});
  return {};
}

}  // namespace portfwd
