// Text that somebody else made up: a container chooses its name, its labels, its programs' names.
// A name is cleaned once, where it is learned, so that it is the same to all. What is kept as it
// is, since files and rules are found by it (labels, paths, command lines), is cleaned where it
// leaves the daemon: the bus and the log.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace portfwd {

/// At most `most` bytes of valid UTF-8, cut between two characters. Each of these becomes '?': a
/// byte that is no UTF-8; a control character (C0, DEL, C1), which a terminal obeys; a bidi control
/// and an invisible character, which make a text look like another one; a noncharacter, which a bus
/// refuses.
[[nodiscard]] std::string printable(std::string_view text,
                                    std::size_t most = std::string_view::npos);

/// Whether it is UTF-8 without noncharacters: other text cannot be sent over a bus.
[[nodiscard]] bool is_utf8(std::string_view text);

}  // namespace portfwd
