// An event as bytes and back. A thousand of them are kept for the daemon's life: as objects their
// texts would lie between everything else on the heap, and each would keep a page from being given
// back.
#pragma once

#include <string>
#include <string_view>

#include "forward/model.h"

namespace portfwd {

/// Appends it to `out`. A container's labels, listeners and published ports are left out: an event
/// has none.
void pack(const Event& event, std::string& out);
/// @param bytes all of what one pack() appended
[[nodiscard]] Event unpack(std::string_view bytes);

}  // namespace portfwd
