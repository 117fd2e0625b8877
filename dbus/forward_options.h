// The options of Manager.Forward: a dictionary from outside, checked key by key. A key that is not
// known or has the wrong type is an error that names it, never ignored.
#pragma once

#include "api/control.h"
#include "dbus/sdbus_compat.h"

namespace portfwd {

struct RequestedForward {
  ForwardSpec spec;  ///< without container and target
  bool while_connected = false;
};

/// Throws org.portfwd1.Error.InvalidArgument.
[[nodiscard]] RequestedForward parse_forward_options(const Properties& options);

}  // namespace portfwd
