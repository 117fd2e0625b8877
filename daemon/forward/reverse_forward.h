// One reverse forward: a port on a container's own loopback that leads to a port on the host's.
//
//              the container is there, and so is the port        it is gone
//   waiting ──────────────────────────────────────────► active ────────────► waiting
//      └─────── the port can't be had ──► conflict; tried again by ReverseForwards
//
// Who connects inside is the container's business, so nobody is asked who he is. Owned by
// ReverseForwards. It knows neither the bus nor how a container is reached.
#pragma once

#include <memory>
#include <string>

#include "access/container_access.h"
#include "forward/draining_ports.h"
#include "forward/forward_request.h"
#include "forward/model.h"
#include "relay/stream_port.h"

namespace portfwd {

class ReverseForward;

class ReverseForwardObserver {
 public:
  /// It listens inside now, or can't and says why. @param news false: as the last time
  virtual void on_settled(ReverseForward& forward, bool news) = 0;

 protected:
  ~ReverseForwardObserver() = default;
};

class ReverseForward final : public Retirable, private InsidePortHandler {
 public:
  struct Parts {
    RelayServices relay;
    Dialer& host;  ///< dials the host's loopback
    ForwardPortObserver& ports;
    ReverseForwardObserver& observer;
  };
  /// @param request with its id, name, target and host port @param settings without id and name
  ReverseForward(const Parts& parts, ForwardRequest request, const ForwardPortSettings& settings);

  [[nodiscard]] const std::string& id() const { return info_.id; }
  [[nodiscard]] Origin origin() const { return info_.origin; }
  [[nodiscard]] ForwardState state() const { return info_.state; }
  [[nodiscard]] const ForwardRequest& request() const { return request_; }
  void set_asked_by(std::string who) { request_.asked_by = std::move(who); }
  /// Null while its container is away.
  [[nodiscard]] ContainerAccess* reach() const { return reach_; }
  /// A copy for outside, counters as of now.
  [[nodiscard]] ForwardInfo info() const;

  void configure(const ForwardPortSettings& settings);
  /// Its container is there: asks for the port, in conflict once more. on_settled() follows, from
  /// within this call only when no port of ours can be had there at all.
  void attach(ContainerAccess& reach);
  /// Its container goes, or it ends itself: nobody is accepted any more.
  /// @return what drains still, for `limit` at most
  [[nodiscard]] std::unique_ptr<ForwardPort> leave(Duration limit);

 private:
  void on_inside_port(Result<std::vector<BoundSocket>> sockets) override;
  void fail(const Error& error);
  void settle(ForwardState state, const std::string& reason, int error = 0);
  [[nodiscard]] std::string why_not(const Error& error) const;
  [[nodiscard]] std::unique_ptr<StreamPort> make_port() const;

  Parts parts_;
  ForwardRequest request_;
  ForwardInfo info_;
  ForwardPortSettings settings_;
  Counters past_;  ///< of ports before this one
  ContainerAccess* reach_ = nullptr;
  std::unique_ptr<InsidePort> inside_;
  std::unique_ptr<StreamPort> port_;  ///< its sockets go before inside_
};

}  // namespace portfwd
