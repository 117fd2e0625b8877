#include "access/broker_access.h"

#include <fmt/format.h>

#include <cassert>
#include <utility>

#include "base/descriptors.h"
#include "base/log.h"

namespace portfwd {

BrokerAccess::BrokerAccess(const Parts& parts, RelayContext& relay, Entry entry)
    : NetnsAccess(parts, entry.pid, entry.netns),
      name_(std::move(entry.name)),
      sockets_(relay, std::move(entry.broker), std::move(entry.netns_fd), watch()) {}

void BrokerAccess::on_source_needed() {
  if (!modules().of(Protocol::Tcp)) {
    (void)watch().use_procfs();  // which counts a failure itself
    return;
  }
  request_diag();
}

void BrokerAccess::request_diag() {
  sockets_.request_diag([this](Result<void> made) {
    if (!made) return on_failure(made.error());
    failure_logged_ = false;
  });
}

/// After a failure of the broker itself the pause is the broker's: the next one is asked as soon as
/// it runs. What a broker refuses is asked for again at the watch's pace.
void BrokerAccess::on_failure(const Error& error) {
  if (BrokerClient::is_brokers_failure(error)) {
    watch().diag_delayed();
    request_diag();
  } else {
    watch().diag_failed(error);
  }
  if (std::exchange(failure_logged_, true)) return;
  log::write(
      log::Level::Warning,
      fmt::format("cannot enter network namespace of {}: {}; will retry{}", name_, error.text(),
                  and_remedy_of_shortage(error)),
      {{"MESSAGE_ID", std::string(log::message_id::kBrokerFailed)}, {"PORTFWD_CONTAINER", name_}});
}

}  // namespace portfwd
