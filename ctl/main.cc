// portfwdctl: parses the command line, runs one command, and reports a failure on stderr and by the
// exit status. It communicates with the daemon only over D-Bus.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "base/version.h"
#include "ctl/command_line.h"
#include "ctl/commands.h"
#include "ctl/text.h"

namespace {

using namespace portfwd::ctl;

/// Prints a message to stderr, each line with the name of the program.
int report(Status status, std::string_view text) {
  while (!text.empty()) {  // an invalid configuration has a line for each error
    const std::string_view line = text.substr(0, text.find('\n'));
    fmt::print(stderr, "portfwdctl: {}\n", portfwd::printable(line));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
  }
  return static_cast<int>(status);
}

void run_line(const CommandLine& line) {
  if (line.has("--help")) {
    fmt::print("{}", line.command ? help(*line.command) : help());
  } else if (line.has("--version")) {
    fmt::print("portfwdctl {}\n", portfwd::kVersion);
  } else {
    run(line);
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
    throw Failure(Status::Failed, "cannot write the answer to standard output");
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::vector<std::string_view> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
    run_line(parse_command_line(arguments));
    return 0;
  } catch (const Failure& failure) {
    return report(failure.status(), failure.what());
  } catch (const std::exception& e) {
    return report(Status::Failed, e.what());
  }
}
