// JSON with comments, as people write devcontainer.json: made plain JSON. Pure.
#pragma once

#include <string>
#include <string_view>

namespace portfwd::devcontainer {

/// `text` with comments (`//` to the end of the line, `/* */`) and the commas before `}` and `]`
/// blanked out. What is in strings stays, and so does every position: the parser's complaints fit
/// the file. Anything that is no JSON stays what it is, for the parser to refuse.
[[nodiscard]] std::string to_plain_json(std::string_view text);

}  // namespace portfwd::devcontainer
