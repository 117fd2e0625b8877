#include "access/broker_access.h"

#include <fmt/format.h>

#include <utility>

#include "access/broker_inside_port.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "broker/client/broker_messages.h"

namespace portfwd {

namespace {

constexpr std::uint32_t kDiagSockets = 2;  // one dumps, one hears of closes

}  // namespace

BrokerAccess::BrokerAccess(const Parts& parts, RelayContext& relay, Entry entry)
    : NetnsAccess(parts, entry.pid, entry.netns),
      entry_(std::move(entry)),
      modules_(parts.watching.modules),
      ways_(relay, entry_.broker, entry_.netns_fd.get()) {}

void BrokerAccess::need_diag(PortWatch& watch) {
  if (!modules_.of(Protocol::Tcp)) {
    (void)watch.use_procfs();  // which counts a failure itself
    return;
  }
  ask_for_diag();
}

void BrokerAccess::ask_for_diag() {
  diag_call_ = entry_.broker->call(
      sock_diag_sockets(kDiagSockets), entry_.netns_fd.get(),
      [this](Result<BrokerClient::Sockets> sockets) { got_diag(std::move(sockets)); });
}

/// After a failure of the broker itself the pause is the broker's: the next one is asked as soon as
/// it runs. What it refuses is asked for again at the watch's pace.
void BrokerAccess::got_diag(Result<BrokerClient::Sockets> sockets) {
  if (sockets) {
    failure_told_ = false;
    watch().give_diag(std::move((*sockets)[0]), std::move((*sockets)[1]));
    return;
  }
  if (BrokerClient::is_brokers_failure(sockets.error())) {
    watch().diag_delayed();
    ask_for_diag();
  } else {
    watch().diag_failed(sockets.error());
  }
  if (std::exchange(failure_told_, true)) return;
  log::write(log::Level::Warning,
             fmt::format("{} can't be entered now: {}; it is tried again{}", entry_.name,
                         sockets.error().text(), and_remedy_of_shortage(sockets.error())),
             {{"MESSAGE_ID", std::string(log::message_id::kBrokerFailed)},
              {"PORTFWD_CONTAINER", entry_.name}});
}

TakenPort BrokerAccess::listen_inside(Port port, InsidePortHandler& handler) {
  return std::make_unique<BrokerInsidePort>(
      BrokerInsidePort::Parts{entry_.broker, entry_.netns_fd.get(), watch()}, port, handler);
}

void BrokerAccess::prepare(std::vector<Listener>& now) {
  ways_.prepare(now);
}

}  // namespace portfwd
