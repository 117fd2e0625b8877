#include "forward/declarations.h"

#include <algorithm>

#include "forward/published.h"

namespace portfwd {

std::vector<DeclaredForward> Declarations::all() const {
  std::vector<DeclaredForward> all;
  for (const DeclaredForward& declared : settings_.forwards) {
    const bool by_engine = declared.direction == Direction::In &&
                           published_.contains({declared.container, declared.target});
    if (!by_engine) all.push_back(declared);
  }
  for (DeclaredForward& wish : wishes_.declared()) {
    const bool said = std::ranges::any_of(all, [&](const DeclaredForward& d) {
      return d.container == wish.container && d.target == wish.target &&
             d.direction == wish.direction;
    });
    if (!said) all.push_back(std::move(wish));
  }
  return all;
}

bool Declarations::note_published(const Container& container) {
  const bool engine_has_answered = !container.publishes_unknown && !container.image.empty();
  if (!engine_has_answered) return false;
  bool changed = false;
  for (const DeclaredForward& declared : settings_.forwards) {
    if (declared.container != container.name || declared.direction != Direction::In) continue;
    const auto port = published_on_loopback(container.published, declared.target);
    const bool served = port && declared.host_port.value_or(*port) == *port;
    std::pair<std::string, Target> key{declared.container, declared.target};
    changed |= served ? published_.insert(std::move(key)).second : published_.erase(key) != 0;
  }
  return changed;
}

}  // namespace portfwd
