// What each command of portfwdctl does: asks the client, prints the answer.
#pragma once

#include "ctl/command_line.h"

namespace portfwd::ctl {

/// Carries out a line that names a command. Prints to stdout; throws Failure.
void run(const CommandLine& line);

}  // namespace portfwd::ctl
