#include "kernel/diag_modules.h"

#include <fmt/format.h>

#include "base/log.h"

namespace portfwd {

DiagModules::DiagModules(EventLoop& loop, Probe probe)
    : probe_(std::move(probe)), again_(loop, [this] { look(); }) {
  look();
}

std::string DiagModules::trouble(Protocol protocol) const {
  if (of(protocol)) return "";
  return fmt::format(
      "every client is refused, as the kernel can't tell whose it is ({}): load the module "
      "{}_diag (modprobe {}_diag), or set restrict_to_user = false",
      of(protocol).error().text(), name_of(protocol), name_of(protocol));
}

void DiagModules::look() {
  bool missing = false;
  bool changed = false;
  for (const Protocol protocol : {Protocol::Tcp, Protocol::Udp}) {
    Result<void>& known = found_[static_cast<std::size_t>(protocol)];
    const bool had_it = known.has_value();
    known = probe_(protocol);
    missing |= !known;
    changed |= known.has_value() != had_it;
    if (known && !had_it) {
      log::info("the kernel has {}_diag now: clients can be identified", name_of(protocol));
    } else if (!known && had_it) {
      log::warning("{}: {}", name_of(protocol), trouble(protocol));
    }
  }
  if (missing) again_.arm_after(kPause);
  if (changed) on_change_();
}

}  // namespace portfwd
