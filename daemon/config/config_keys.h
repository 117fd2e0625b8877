// Every key of portfwd.toml(5): one table a section, each key with its reader and its member. What
// is written in a section goes into Settings, or into the complaints.
#pragma once

#include "config/complaints.h"
#include "config/settings.h"

namespace portfwd {

/// Reads all sections of one file into `settings`: keys replace what is there, rules and forwards
/// are appended.
void read_sections(Complaints& complaints, const toml::table& root, Settings& settings);

}  // namespace portfwd
