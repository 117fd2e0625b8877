#include "access/helper_access.h"

#include <fmt/format.h>

#include <algorithm>

#include "access/broker_inside_port.h"
#include "base/log.h"
#include "broker/client/broker_messages.h"

namespace portfwd {

namespace {

constexpr std::uint32_t kDiagSockets = 2;  // one dumps, one hears of closes

bool needs_a_way_inside(const Listener& listener) {
  return !listener.unreachable.empty() && listener.local.ip().address != kEnginesResolver;
}

}  // namespace

HelperAccess::HelperAccess(const Parts& parts, RelayContext& relay, Entry entry)
    : NetnsAccess(parts, entry.pid, 0),
      relay_(relay),
      launcher_(std::move(entry.launcher)),
      modules_(parts.watching.modules),
      outside_(
          relay, std::move(entry.inside), [this] { return launcher_->way_in(); },
          [this] { reconsider(); }),
      retry_(relay.loop(), [this] { reconsider(); }) {}

DialStart HelperAccess::dial(std::span<const Address> candidates, TimePoint deadline,
                             DialHandler& handler) {
  Dialer& way = inside_ ? inside_->dialer(Protocol::Tcp) : outside_.dialer();
  return way.dial(candidates, deadline, handler);
}

/// While tcp_diag was missing the helper could give nothing to look with.
void HelperAccess::need_diag(PortWatch& watch) {
  if (!inside_ || !modules_.of(Protocol::Tcp)) {
    (void)watch.use_procfs(outside_.table());  // on a failure it asks again
    return;
  }
  diag_call_ = broker_->call(sock_diag_sockets(kDiagSockets), -1,
                             [&watch](Result<BrokerClient::Sockets> sockets) {
                               if (!sockets) return watch.diag_failed(sockets.error());
                               watch.give_diag(std::move((*sockets)[0]), std::move((*sockets)[1]));
                             });
}

void HelperAccess::prepare(std::vector<Listener>& now) {
  if (inside_) return inside_->prepare(now);
  outside_.mark(now, trouble_);
  if (std::ranges::any_of(now, needs_a_way_inside)) start_helper();
}

/// What is asked of a helper that is on its way waits for it.
TakenPort HelperAccess::listen_inside(Port port, InsidePortHandler& handler) {
  start_helper();
  if (!broker_) return std::unexpected(outside_.closed(trouble_));
  return std::make_unique<BrokerInsidePort>(BrokerInsidePort::Parts{broker_, -1, watch()}, port,
                                            handler);
}

void HelperAccess::start_helper() {
  if (broker_ || retry_.armed()) return;
  if (!launcher_->usable()) return retry_.arm_after(kRetry);
  broker_ =
      std::make_shared<BrokerClient>(relay_.loop(), launcher_, UniqueFd(), broker::Home::Here);
  const bool diag = modules_.of(Protocol::Tcp).has_value();
  call_ = broker_->call(diag ? sock_diag_sockets(kDiagSockets) : stream_sockets(Family::V4, 1), -1,
                        [this, diag](Result<BrokerClient::Sockets> sockets) {
                          helper_answered(std::move(sockets), diag);
                        });
}

void HelperAccess::helper_answered(Result<BrokerClient::Sockets> sockets, bool diag) {
  if (sockets) {
    inside_.emplace(relay_, broker_, -1);
    trouble_.clear();
    outside_.retire();
    if (diag) watch().give_diag(std::move((*sockets)[0]), std::move((*sockets)[1]));
    return reconsider();
  }
  const std::string& why = launcher_->failure();
  std::string trouble = fmt::format("a helper container can't be had ({})",
                                    why.empty() ? sockets.error().text() : why);
  if (trouble != trouble_) {
    log::write(log::Level::Warning, trouble + "; it is tried again every minute",
               {{"MESSAGE_ID", std::string(log::message_id::kBrokerFailed)}});
  }
  trouble_ = std::move(trouble);
  broker_.reset();
  retry_.arm_after(kRetry);
  reconsider();
}

}  // namespace portfwd
