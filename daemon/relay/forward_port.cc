
#include "relay/forward_port.h"

#include <fmt/format.h>

#include <cassert>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "relay/datagram_port.h"
#include "relay/stream_port.h"

namespace portfwd {

namespace {

using Kind = ClientVerdict::Kind;

constexpr Duration kInterval = std::chrono::seconds(1);

/// Parts of a log line: which client was refused, and the setting that would allow it.
struct Refused {
  std::string client;
  std::string remedy;
};

Refused describe(const Address& client, const ClientVerdict& verdict) {
  switch (verdict.kind) {
    case Kind::OtherUser:
      return {fmt::format("of user {}", verdict.uid.value_or(0)),
              "to allow that user, name it in allow_users; to allow every user of this machine, "
              "set restrict_to_user = false"};
    case Kind::Remote:
      return {fmt::format("of another machine ({})", client.ip().address.text()),
              "to allow such clients, set allow_remote = true"};
    default:
      if (!verdict.trouble.empty()) return {"that cannot be identified", verdict.trouble};
      return {"of an unknown user (connection already closed?)",
              "a client that waits for an answer can be identified; or to allow every user of this "
              "machine, set restrict_to_user = false"};
  }
}

}  // namespace

void RefusalLog::write(TimePoint now, const std::string& id, const std::string& name,
                       const Address& client, const ClientVerdict& verdict) {
  assert(!verdict.allowed());
  if (now < next_line_) {
    ++suppressed_;
    return;
  }
  next_line_ = now + kInterval;
  const std::uint64_t more = std::exchange(suppressed_, 0);
  const Refused refused = describe(client, verdict);
  log::write(log::Level::Notice,
             fmt::format("{}: refused a client {}{}; {}", name, refused.client,
                         more > 0 ? fmt::format(", and {} more", more) : "", refused.remedy),
             {{"MESSAGE_ID", std::string(log::message_id::kClientRefused)},
              {"PORTFWD_FORWARD", id},
              {"PORTFWD_CLIENT_UID", verdict.uid ? std::to_string(*verdict.uid) : ""}});
}

std::string undialable_reason(const Error& error) {
  if (error.op == kLeadsBack.op) {
    return "the target leads back to this port: each connection to it causes another one, as with "
           "ssh -R N:localhost:N; clients are refused for a few seconds";
  }
  return fmt::format("cannot dial the target: {}", ::strerror(error.code));
}

void PortCore::hold() {
  assert(phase_ != Phase::Draining);
  phase_ = Phase::Holding;
  dialer_ = nullptr;
}

void PortCore::serve(Dialer& dialer, std::span<const ListenAddress> listeners) {
  assert(phase_ != Phase::Draining && !listeners.empty());
  phase_ = Phase::Serving;
  dialer_ = &dialer;
  for (const Family family : {Family::V4, Family::V6}) {
    candidates_[static_cast<std::size_t>(family)] = dial_order(family, listeners);
  }
}

bool PortCore::dials_unix() const {
  const auto& candidates = candidates_.front();
  return serving() && !candidates.empty() && candidates.front().endpoint() == nullptr;
}

void PortCore::drain() {
  phase_ = Phase::Draining;
  dialer_ = nullptr;
}

DialStart PortCore::dial(Family client, DialHandler& handler) {
  assert(serving() && dialer_ != nullptr);
  DialStart start = dialer_->dial(candidates_[static_cast<std::size_t>(client)],
                                  now() + settings_.connect_timeout, handler);
  assert(start.connected.valid() == (start.attempt == nullptr));
  return start;
}

bool PortCore::authorize(const ClientVerdict& verdict, const Address& client) {
  if (verdict.allowed()) return true;
  ++counters_.refused;
  refusals_.write(now(), settings_.id, settings_.name, client, verdict);
  return false;
}

void PortCore::notify_refused(const Error& error) {
  log::debug("{}: {}", settings_.name, error.text());
  observer_.on_target_refused(port_, error);
}

void PortCore::notify_reached() {
  if (std::exchange(undialable_, false)) observer_.on_target_reached(port_);
}

void PortCore::notify_drained() {
  assert(phase_ == Phase::Draining);
  observer_.on_drained(port_);
}

std::unique_ptr<ForwardPort> make_forward_port(Protocol listens, const RelayServices& services,
                                               const ForwardPortSettings& settings,
                                               ForwardPortObserver& observer) {
  if (listens == Protocol::Udp) {
    return std::make_unique<DatagramPort>(services, settings, observer);
  }
  return std::make_unique<StreamPort>(services, settings, observer, listens);
}

}  // namespace portfwd
