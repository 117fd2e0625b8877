// Whether a rule is about a listener: its conditions, one after another. Pure functions; what
// follows from a match is for policy to say.
#pragma once

#include <string>
#include <vector>

#include "access/listener.h"
#include "config/rule.h"
#include "discover/container.h"

namespace portfwd {

/// Whether all conditions hold. A program or label that can't be known holds for none.
[[nodiscard]] bool matches(const Conditions& when, const Container& container,
                           const Listener& listener);

/// Whether the conditions are about the container alone, and hold.
[[nodiscard]] bool matches_whole(const Conditions& when, const Container& container);
/// Whether they could hold for some listener of this container.
[[nodiscard]] bool may_match(const Conditions& when, const Container& container);

/// For people: the conditions that don't hold, each with what was seen instead; "" when all do.
/// Such as `process is "nginx", not "postgres"`.
[[nodiscard]] std::string mismatch_text(const Conditions& when, const Container& container,
                                        const Listener& listener);

}  // namespace portfwd
