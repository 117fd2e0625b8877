// Completion scripts for shells, made from the table of commands and options.
// portfwdctl-completions, which only the build runs, prints them.
#pragma once

#include <string>

namespace portfwd::ctl {

[[nodiscard]] std::string bash_completion();
[[nodiscard]] std::string zsh_completion();
[[nodiscard]] std::string fish_completion();

}  // namespace portfwd::ctl
