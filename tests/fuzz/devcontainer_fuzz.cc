// Arbitrary metadata of a dev container, as an image or repository may have: reading it has bounded
// cost, and the result requests only what a container may request.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "devcontainer/port_metadata.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace devcontainer = portfwd::devcontainer;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (devcontainer::to_plain_json(text).size() != size) std::abort();
  const auto metadata = devcontainer::parse_port_metadata(text);
  for (const auto& wanted : metadata.wanted) {
    if (wanted.port == 0 || wanted.host_port.value_or(1024) < 1024) std::abort();
    (void)devcontainer::attributes_for(metadata, "db", wanted.service.empty(), wanted.port,
                                       "node x");
  }
  return 0;
}
