// Datagrams of the proc connector, of any length and content.
#include <cstdint>
#include <span>

#include "kernel/proc_connector.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  (void)portfwd::parse_exec_event(std::as_bytes(std::span(data, size)));
  return 0;
}
