// Hands a URL to the user's browser. The URL comes from the daemon, which made it of a port and a
// scheme; it is checked all the same, as xdg-open would run a handler for any scheme.
#pragma once

#include <string>
#include <string_view>

namespace portfwd::ctl {

/// http or https, and no character that has no place in a URL.
[[nodiscard]] bool is_web_address(std::string_view url);

/// Runs xdg-open, without a shell, and waits for it. Throws Failure.
void open_in_browser(const std::string& url);

}  // namespace portfwd::ctl
