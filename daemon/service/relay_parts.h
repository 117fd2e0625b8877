// What all relays share, put together for this process: the context, the gate before accept, and
// the kernel's word on who connects. Owned by main.
#pragma once

#include "base/error.h"
#include "base/facts.h"
#include "relay/accept_gate.h"
#include "relay/forward_port.h"
#include "relay/relay_context.h"

namespace portfwd {

class RelayParts final : private AcceptGateObserver {
 public:
  /// @param diag opened in the daemon's own namespaces
  RelayParts(EventLoop& loop, SockDiag diag);

  [[nodiscard]] RelayContext& context() { return context_; }
  [[nodiscard]] DiagModules& modules() { return modules_; }
  [[nodiscard]] RelayServices services() { return {context_, gate_, identity_}; }

 private:
  void on_descriptors_short(const Error& error) override;

  RelayContext context_;
  AcceptGate gate_;
  DiagModules modules_;
  ClientIdentity identity_;
};

}  // namespace portfwd
