#include "dbus/message.h"

#include <cstring>

#include "base/log.h"

namespace portfwd {

void log_unsent(const char* what, int returned) {
  if (returned < 0) log::warning("cannot send {} on the bus: {}", what, ::strerror(-returned));
}

namespace {

const char* error_name(Refusal::Kind kind) {
  switch (kind) {
    case Refusal::Kind::NoSuchContainer:
      return "org.portfwd1.Error.NoSuchContainer";
    case Refusal::Kind::NoSuchForward:
      return "org.portfwd1.Error.NoSuchForward";
    case Refusal::Kind::Ambiguous:
      return "org.portfwd1.Error.Ambiguous";
    case Refusal::Kind::PortInUse:
      return "org.portfwd1.Error.PortInUse";
    case Refusal::Kind::Inaccessible:
      return "org.portfwd1.Error.Inaccessible";
    case Refusal::Kind::InvalidArgument:
      return "org.portfwd1.Error.InvalidArgument";
    case Refusal::Kind::LimitExceeded:
      return "org.portfwd1.Error.LimitExceeded";
    case Refusal::Kind::AlreadyRunning:  // not the answer to a call: it ends the daemon
    case Refusal::Kind::Failed:
      break;
  }
  return "org.freedesktop.DBus.Error.Failed";
}

}  // namespace

/// Sanitizes line by line, since the errors of a configuration are sent one per line.
int reply_refusal(const Refusal& refusal, sd_bus_error* error) {
  std::string text;
  for (std::string_view rest = refusal.text;;) {
    const auto end = rest.find('\n');
    text += bus_text(rest.substr(0, end));
    if (end == rest.npos) break;
    text += '\n';
    rest.remove_prefix(end + 1);
  }
  return ::sd_bus_error_set(error, error_name(refusal.kind), text.c_str());
}

}  // namespace portfwd
