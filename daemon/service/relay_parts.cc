#include "service/relay_parts.h"

#include <fmt/format.h>
#include <unistd.h>

#include "base/log.h"
#include "service/process_setup.h"

namespace portfwd {

namespace {

/// By a socket of its own, which is not kept for a look each 30 s.
Result<void> look_for_module(Protocol protocol) {
  auto diag = SockDiag::open();
  if (!diag) return std::unexpected(diag.error());
  return diag->self_test(protocol);
}

}  // namespace

RelayParts::RelayParts(EventLoop& loop, SockDiag diag)
    : context_(loop),
      gate_(loop, *this),
      modules_(loop, look_for_module),
      identity_(std::move(diag), ::geteuid(), Subuids("/etc/subuid", login_name(), ::geteuid()),
                &modules_) {}

void RelayParts::on_descriptors_short(const Error& error) {
  log::write(
      log::Level::Warning,
      fmt::format("descriptors run short ({}): new connections wait until others end, those to "
                  "the busiest forwards first; raise LimitNOFILE= of the unit",
                  error.text()),
      {{"MESSAGE_ID", std::string(log::message_id::kLimitReached)}});
}

}  // namespace portfwd
