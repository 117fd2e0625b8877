// A configuration: reading it returns the same settings each time, or printable mistakes, each with
// a place.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "config/config_file.h"

namespace {

bool fit_to_be_shown(const portfwd::Mistake& mistake) {
  return mistake.place.line > 0 && mistake.place.column > 0 && !mistake.text.empty() &&
         std::ranges::none_of(mistake.message(), [](unsigned char c) { return c < 0x20; });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto settings = portfwd::parse_config(text, "fuzz.toml");
  if (settings) {
    const auto again = portfwd::parse_config(text, "fuzz.toml");
    if (!again || *again != *settings) std::abort();
  } else if (settings.error().empty() || !std::ranges::all_of(settings.error(), fit_to_be_shown)) {
    std::abort();
  }
  return 0;
}
