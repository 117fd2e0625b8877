// What the configuration has a place for and no part obeys yet: refused with one sentence, so that
// nobody relies on it. Whoever lands such a part takes its line out of the table.
#pragma once

#include "config/complaints.h"

namespace portfwd {

/// For a key with a value that it has not yet. @return whether it was complained of
bool refuse_not_yet(Complaints& complaints, std::string_view section, const toml::key& key,
                    const toml::node& value);

}  // namespace portfwd
