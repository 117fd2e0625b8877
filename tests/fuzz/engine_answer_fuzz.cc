// Arbitrary answers of an engine: the parsed values keep the guarantees of engine/answers.h.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "engine/answers.h"

namespace {

void require(bool kept) {
  if (!kept) std::abort();
}

void check(const portfwd::ContainerFacts& facts) {
  require(!facts.id.empty() && facts.pid >= 0);
  for (const portfwd::PublishedPorts& ports : facts.published) {
    require(ports.count > 0 && ports.host_port > 0 && ports.container_port > 0);
    require(ports.host_port + ports.count <= 65536 && ports.container_port + ports.count <= 65536);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto list = portfwd::parse_container_list(text)) {
    for (const auto& facts : *list) check(facts);
  }
  if (const auto event = portfwd::parse_container_event(text)) {
    require(!event->id.empty() && !event->action.empty());
  }
  for (const auto& facts : portfwd::parse_stored_containers(text)) {
    require(!facts.id.empty() && !facts.name.empty());
  }
  return 0;
}
