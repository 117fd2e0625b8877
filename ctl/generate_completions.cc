// portfwdctl-completions SHELL: prints the completion script for bash, zsh or fish. Used by the
// build; not installed.
#include <fmt/format.h>

#include <string_view>

#include "ctl/completions.h"

int main(int argc, char** argv) {
  using namespace portfwd::ctl;
  const std::string_view shell = argc == 2 ? argv[1] : "";
  std::string script;
  if (shell == "bash") script = bash_completion();
  if (shell == "zsh") script = zsh_completion();
  if (shell == "fish") script = fish_completion();
  if (script.empty()) {
    fmt::print(stderr, "usage: portfwdctl-completions bash|zsh|fish\n");
    return 2;
  }
  fmt::print("{}", script);
  return 0;
}
