#include "ctl/failure.h"

#include "base/text.h"

namespace portfwd::ctl {

std::string echo(std::string_view word) {
  constexpr std::size_t kMost = 64;
  return printable(word, kMost) + (word.size() > kMost ? "…" : "");
}

}  // namespace portfwd::ctl
