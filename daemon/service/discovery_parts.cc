#include "service/discovery_parts.h"

#include <algorithm>
#include <iterator>

namespace portfwd {

void DiscoveryParts::add_facts(Facts& facts_out) const {
  constexpr std::size_t kMostNamed = 8;
  std::vector<const Reader*> readers = names.readers();
  readers.push_back(&files);
  readers.push_back(&reader);
  std::int64_t silences = 0;
  std::int64_t stuck = 0;
  std::vector<std::string> silent;
  for (const Reader* each : readers) {
    silences += static_cast<std::int64_t>(each->silences());
    stuck += static_cast<std::int64_t>(each->stuck());
    std::ranges::move(each->silent(kMostNamed), std::back_inserter(silent));
  }
  if (silent.size() > kMostNamed) silent.erase(silent.begin(), silent.end() - kMostNamed);
  facts_out["reader_silences"] = silences;
  facts_out["readers_stuck"] = stuck;
  facts_out["not_read"] = std::move(silent);
}

}  // namespace portfwd
