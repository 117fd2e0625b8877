// An arbitrary state file: what is read from it is the same after it was written and read again.
// The same for an instance file.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "state/state.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto state = portfwd::parse_state(text);
  if (state && portfwd::parse_state(portfwd::to_text(*state)) != *state) std::abort();
  const auto record = portfwd::parse_instance(text);
  if (record && portfwd::parse_instance(portfwd::to_text(*record)) != *record) std::abort();
  return 0;
}
