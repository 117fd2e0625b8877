#include "reach/broker_reach.h"

#include <fmt/format.h>

#include <utility>

#include "base/log.h"
#include "broker/client/broker_messages.h"

namespace portfwd {

namespace {

constexpr std::uint32_t kDiagSockets = 2;  // one dumps, one hears of closes

std::string why_not(const Container& container, const Error& error) {
  if (error.code == EPERM) {
    return fmt::format(
        "its network namespace belongs to another user (uid {}): run it rootless as "
        "this user, or run portfwd as its owner",
        container.uid);
  }
  return fmt::format("it can't be entered: {}", error.text());
}

}  // namespace

BrokerReach::BrokerReach(const Parts& parts, const Container& container,
                         Result<std::shared_ptr<BrokerClient>> broker)
    : parts_(parts), container_(container) {
  if (!container.inaccessible.empty()) {
    reason_ = container.inaccessible;
    return;
  }
  if (!broker) {
    reason_ = why_not(container, broker.error());
    return;
  }
  broker_ = std::move(*broker);
  pool_.emplace(parts.loop, broker_, container.netns_fd.get());
  dialer_.emplace(parts.relay, *pool_);
  WatchObserver& observer = *this;  // private bases: visible here, not in emplace
  DiagProvider& provider = *this;
  watch_.emplace(PortWatch::Shared{parts.loop, parts.pace, parts.storm}, observer, provider,
                 container.pid, container.netns);
}

ContainerState BrokerReach::state() const {
  return watch_ ? ContainerState::Watched : ContainerState::Inaccessible;
}

ReachKind BrokerReach::kind() const {
  return watch_ ? ReachKind::Broker : ReachKind::None;
}

void BrokerReach::hurry() {
  if (watch_) watch_->hurry();
}

void BrokerReach::need_diag(PortWatch& watch) {
  if (!parts_.sock_diag) {
    if (!watch.use_procfs()) watch.diag_failed();
    return;
  }
  diag_call_ = broker_->call(
      sock_diag_sockets(kDiagSockets), container_.netns_fd.get(),
      [this](Result<BrokerClient::Sockets> sockets) { got_diag(std::move(sockets)); });
}

void BrokerReach::got_diag(Result<BrokerClient::Sockets> sockets) {
  if (sockets) {
    failure_told_ = false;
    watch_->give_diag(std::move((*sockets)[0]), std::move((*sockets)[1]));
    return;
  }
  watch_->diag_failed();
  if (std::exchange(failure_told_, true)) return;
  log::write(log::Level::Warning,
             fmt::format("{} can't be entered now: {}; it is tried again", container_.name,
                         sockets.error().text()),
             {{"MESSAGE_ID", std::string(log::message_id::kBrokerFailed)},
              {"PORTFWD_CONTAINER", container_.name}});
}

void BrokerReach::on_listeners(Watcher& watcher) {
  std::vector<Listener> now = watcher.listeners();
  parts_.names.name_new(container_.netns, listeners_, now);
  listeners_ = std::move(now);
  ever_listened_ |= !listeners_.empty();
  if (!listeners_.empty()) {
    pool_->prepare(Family::V4);
    pool_->prepare(Family::V6);
  }
  parts_.observer.on_listeners(*this);
}

}  // namespace portfwd
