#include "access/helper_access.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "base/log.h"

namespace portfwd {

namespace {

bool needs_helper(const Listener& listener) {
  return !listener.unreachable.empty() && listener.local.ip().address != kEngineResolver;
}

}  // namespace

HelperAccess::HelperAccess(const Parts& parts, RelayContext& relay, Entry entry)
    : NetnsAccess(parts, entry.pid, 0),
      relay_(relay),
      launcher_(std::move(entry.launcher)),
      view_(
          relay, std::move(entry.inside), [this] { return launcher_->hint(); },
          [this] { update_listeners(); }),
      retry_(relay.loop(), [this] { update_listeners(); }) {
  assert(launcher_ != nullptr);
}

DialStart HelperAccess::dial(std::span<const Address> candidates, TimePoint deadline,
                             DialHandler& handler) {
  Dialer& by = entered_ ? sockets_->dialer(Protocol::Tcp) : view_.dialer();
  return by.dial(candidates, deadline, handler);
}

/// While tcp_diag was missing the helper could not make the sockets that the watch reads.
void HelperAccess::on_source_needed() {
  if (!entered_ || !modules().of(Protocol::Tcp)) {
    (void)watch().use_procfs(view_.table());  // after a failure it asks again
    return;
  }
  sockets_->request_diag([this](Result<void> made) {
    if (!made) watch().diag_failed(made.error());
  });
}

void HelperAccess::prepare_dialing(std::vector<Listener>& listeners) {
  if (entered_) return sockets_->prepare(listeners);
  view_.mark_unreachable(listeners, trouble_);
  if (std::ranges::any_of(listeners, needs_helper)) start_helper();
}

std::expected<std::unique_ptr<InsidePort>, std::string> HelperAccess::listen_inside(
    Port port, InsidePortHandler& handler) {
  start_helper();
  if (!sockets_) return std::unexpected(view_.why_no_socket_inside(trouble_));
  return sockets_->listen_inside(port, handler);
}

void HelperAccess::start_helper() {
  if (sockets_ || retry_.armed()) return;
  assert(!entered_);
  if (!launcher_->usable()) return retry_.arm_after(kRetry);
  sockets_.emplace(
      relay_,
      std::make_shared<BrokerClient>(relay_.loop(), launcher_, UniqueFd(), broker::Home::Here),
      UniqueFd(), watch());
  auto on_answer = [this](Result<void> made) {
    made ? on_helper_started() : on_helper_failed(made.error());
  };
  if (modules().of(Protocol::Tcp)) {
    sockets_->request_diag(std::move(on_answer));
  } else {
    sockets_->request_probe(std::move(on_answer));
  }
}

void HelperAccess::on_helper_started() {
  assert(sockets_ && !entered_);
  entered_ = true;
  trouble_.clear();
  view_.stop();
  update_listeners();
}

void HelperAccess::on_helper_failed(const Error& error) {
  assert(sockets_ && !entered_);
  const std::string& why = launcher_->failure();
  std::string trouble =
      fmt::format("a helper container can't be had ({})", why.empty() ? error.text() : why);
  if (trouble != trouble_) {
    log::write(log::Level::Warning, trouble + "; it is tried again every minute",
               {{"MESSAGE_ID", std::string(log::message_id::kBrokerFailed)}});
  }
  trouble_ = std::move(trouble);
  sockets_.reset();
  retry_.arm_after(kRetry);
  update_listeners();
}

}  // namespace portfwd
