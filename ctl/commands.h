// The commands of portfwdctl: each asks the daemon and prints the answer.
#pragma once

#include "ctl/command_line.h"

namespace portfwd::ctl {

/// Runs the command of a line, which must have one. Prints to stdout; throws Failure or
/// client::Error.
void run(const CommandLine& line);

}  // namespace portfwd::ctl
