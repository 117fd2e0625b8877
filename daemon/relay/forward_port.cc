
#include "relay/forward_port.h"

#include <fmt/format.h>

#include <cstring>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "relay/datagram_port.h"
#include "relay/stream_port.h"

namespace portfwd {

namespace {

using Standing = ClientVerdict::Standing;

constexpr Duration kInterval = std::chrono::seconds(1);

/// Who was refused, and what would let such a client in.
struct Refused {
  std::string who;
  std::string remedy;
};

Refused describe(const Endpoint& client, const ClientVerdict& verdict) {
  switch (verdict.standing) {
    case Standing::Foreign:
      return {fmt::format("of user {}", verdict.uid.value_or(0)),
              "to let that user in, name it in allow_users; to let in every user of this machine, "
              "set restrict_to_user = false"};
    case Standing::Remote:
      return {fmt::format("of another machine ({})", client.address.text()),
              "to let such clients in, set allow_remote = true"};
    default:
      if (!verdict.trouble.empty()) return {"that can't be identified", verdict.trouble};
      return {"whose owner could not be told (it closed at once?)",
              "one that waits for an answer can be told; or let in every user of this machine: set "
              "restrict_to_user = false"};
  }
}

}  // namespace

void RefusalLog::tell(TimePoint now, const std::string& id, const std::string& name,
                      const Endpoint& client, const ClientVerdict& verdict) {
  if (now < may_tell_) {
    ++untold_;
    return;
  }
  may_tell_ = now + kInterval;
  const std::uint64_t more = std::exchange(untold_, 0);
  const Refused refused = describe(client, verdict);
  log::write(log::Level::Notice,
             fmt::format("{}: refused a client {}{}; {}", name, refused.who,
                         more > 0 ? fmt::format(", and {} more", more) : "", refused.remedy),
             {{"MESSAGE_ID", std::string(log::message_id::kClientRefused)},
              {"PORTFWD_FORWARD", id},
              {"PORTFWD_CLIENT_UID", verdict.uid ? std::to_string(*verdict.uid) : ""}});
}

std::string why_undialable(const Error& error) {
  if (error.op == kLeadsBack.op) {
    return "its target leads back to this port: each connection to it makes another one, as with "
           "ssh -R N:localhost:N; clients are refused for some seconds";
  }
  return fmt::format("the target cannot be dialled: {}", ::strerror(error.code));
}

std::unique_ptr<ForwardPort> make_forward_port(Protocol protocol, const RelayServices& services,
                                               const ForwardPortSettings& settings,
                                               ForwardPortObserver& observer) {
  if (protocol == Protocol::Udp) {
    return std::make_unique<DatagramPort>(services, settings, observer);
  }
  return std::make_unique<StreamPort>(services, settings, observer);
}

}  // namespace portfwd
