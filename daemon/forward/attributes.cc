#include "forward/attributes.h"

namespace portfwd {

Attributes attributes_of(const Container& container) {
  const auto label = container.labels.find("portfwd");
  if (label == container.labels.end() || label->second != "off") return {};
  return {.on_auto_forward = "ignore", .source = "the container's label portfwd=off asks for it"};
}

Attributes attributes_of(const Container& container, const Listener& listener) {
  if (Attributes whole = attributes_of(container); whole.on_auto_forward) return whole;
  if (!listener.opted_out) return {};
  return {.on_auto_forward = "ignore",
          .source = "PORTFWD=off in its program's environment asks for it"};
}

}  // namespace portfwd
