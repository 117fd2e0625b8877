// A reverse forward: it listens on a port of the container's own loopback and leads to a port of
// the host's.
//
//              the container is there, and so is the port        it is gone
//   waiting ──────────────────────────────────────────► active ────────────► waiting
//      └─────── the port cannot be had ──► conflict; retried by the table
//
// Who connects inside is the container's business, so no client is authorized. The port inside is
// asked for by update() and comes later: on_listening_settled() tells the table.
#pragma once

#include <memory>
#include <string>

#include "forward/forward.h"
#include "relay/stream_port.h"

namespace portfwd {

class InsideForward final : public Forward, private InsidePortHandler {
 public:
  /// @param host dials the host's loopback; borrowed @param host_port that it leads to
  InsideForward(const RelayServices& relay, ForwardObserver& observer, std::string id,
                ForwardKey key, Origin origin, Dialer& host, Port host_port);

  [[nodiscard]] bool listening() const override { return info_.state == ForwardState::Active; }
  [[nodiscard]] ForwardInfo info() const override;
  [[nodiscard]] Counters counters() const override;

  /// Asks for the port inside, unless it is there or asked for. Within this call it is settled only
  /// if no port of ours can be had there at all.
  bool update(ContainerAccess& access, const std::vector<Listener>& listeners,
              Duration linger) override;
  [[nodiscard]] std::unique_ptr<ForwardPort> leave_container(Duration linger) override;
  [[nodiscard]] std::unique_ptr<ForwardPort> withdraw(Duration drain) override;

 private:
  void on_inside_port(Result<std::vector<BoundSocket>> sockets) override;
  [[nodiscard]] ForwardPortSettings adapted(ForwardPortSettings settings) const override;
  void fail(const Error& error);
  void settle(ForwardState state, const std::string& reason, int error = 0);
  [[nodiscard]] std::string why_not(const Error& error) const;
  [[nodiscard]] StreamPort& stream() { return static_cast<StreamPort&>(*port_); }
  [[nodiscard]] std::unique_ptr<ForwardPort> make_port() const;

  Dialer& host_;
  Counters past_;                       ///< of ports before this one
  ContainerAccess* access_ = nullptr;   ///< null while the container is away
  std::unique_ptr<InsidePort> inside_;  ///< outlives the sockets of port_
};

}  // namespace portfwd
