// Completion scripts for shells, generated from the table of commands and options. The build runs
// portfwdctl-completions to print them.
#pragma once

#include <string>

namespace portfwd::ctl {

[[nodiscard]] std::string bash_completion();
[[nodiscard]] std::string zsh_completion();
[[nodiscard]] std::string fish_completion();

}  // namespace portfwd::ctl
