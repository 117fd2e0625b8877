// An arbitrary text as a target or an address: when parsed, printed and parsed again, the value is
// the same.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "net/target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto target = portfwd::parse_target(text)) {
    if (portfwd::parse_target(target->text()) != target) std::abort();
  }
  if (const auto address = portfwd::IpAddress::parse(text)) {
    if (portfwd::IpAddress::parse(address->text()) != address) std::abort();
  }
  return 0;
}
