// toml++ as this project uses it: headers only, since Debian's library of it throws. Included by
// the .cc files of config/ alone.
#pragma once

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>
