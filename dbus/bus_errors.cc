
#include "dbus/bus_errors.h"

namespace portfwd {

std::string_view error_name(Refusal::Kind kind) {
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
    case Refusal::Kind::AlreadyRunning:  // of no call: the daemon ends
    case Refusal::Kind::Failed:
      break;
  }
  return "org.freedesktop.DBus.Error.Failed";
}

/// The mistakes of a configuration stand one a line.
void throw_refusal(const Refusal& refusal) {
  std::string text;
  for (std::string_view rest = refusal.text;;) {
    const auto end = rest.find('\n');
    text += bus_text(rest.substr(0, end));
    if (end == rest.npos) break;
    text += '\n';
    rest.remove_prefix(end + 1);
  }
  throw compat::make_error(error_name(refusal.kind), text);
}

void throw_invalid(std::string text) {
  throw_refusal({Refusal::Kind::InvalidArgument, std::move(text)});
}

}  // namespace portfwd
