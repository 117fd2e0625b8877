// What engines tell the Registry of their containers. See registry.h.
#include <algorithm>

#include "discover/labels.h"
#include "discover/registry_entry.h"

namespace portfwd {
namespace {

constexpr Duration kSuccession = std::chrono::minutes(1);  // longer than engines wait for an end

/// @return whether that is news
bool take_text(std::string& known, std::string_view told) {
  std::string now = names::printable(told, names::kLongestText);
  if (now == known) return false;
  known = std::move(now);
  return true;
}

/// Docker tells of the ports of a container that has joined another's network only there.
std::string network_owner_of(const ContainerFacts& facts) {
  constexpr std::string_view kJoined = "container:";
  return facts.network_mode.starts_with(kJoined) ? facts.network_mode.substr(kJoined.size()) : "";
}

template <class Value>
bool take(Value& known, const Value& told) {
  if (known == told) return false;
  known = told;
  return true;
}

}  // namespace

Registry::Entry* Registry::entry_of_engine_id(std::string_view engine_id) const {
  const auto found = std::ranges::find_if(entries_, [engine_id](const auto& known) {
    return !engine_id.empty() && known.first.engine_id == engine_id;
  });
  return found == entries_.end() ? nullptr : found->second.get();
}

void Registry::learn(const ContainerFacts& facts) {
  Entry* entry = entry_of_engine_id(facts.id);
  if (entry == nullptr) return;
  Container& container = entry->container;
  bool news = entry->rename_by_engine(facts.name);
  news = take_text(container.image, facts.image) || news;
  news = take_text(container.pod, facts.pod) || news;
  news = take_text(container.project, facts.project) || news;
  news = take_text(container.service, facts.service) || news;
  news = learn_labels(container, facts.labels, facts.workspace.get()) || news;
  entry->network_owner = network_owner_of(facts);
  const Entry* owner = entry_of_engine_id(entry->network_owner);
  const auto& published = owner == nullptr ? facts.published : owner->container.published;
  news = take(container.published, published) || news;
  news = take(container.publishes_unknown, false) || news;
  news = take(container.undecided, false) || news;
  if (news) changed(*entry);
  share_published(*entry);
}

void Registry::share_published(const Entry& owner) {
  for (const auto& [key, entry] : entries_) {
    if (key.engine_id.empty() || entry->network_owner != owner.key.engine_id) continue;
    if (take(entry->container.published, owner.container.published)) changed(*entry);
  }
}

void Registry::learn_nothing(const std::string& engine_id) {
  Entry* entry = entry_of_engine_id(engine_id);
  if (entry == nullptr) return;
  const bool known_now = take(entry->container.publishes_unknown, false);
  if (take(entry->container.undecided, false) || known_now) changed(*entry);
}

void Registry::rename(std::string_view engine_id, std::string_view name) {
  Entry* entry = entry_of_engine_id(engine_id);
  if (entry != nullptr && entry->rename_by_engine(name)) changed(*entry);
}

void Registry::expect_successor(std::string_view engine, std::string_view name_or_id) {
  if (name_or_id.empty()) return;
  for (const auto& [key, entry] : entries_) {
    const bool meant = entry->container.name == name_or_id || key.engine_id.starts_with(name_or_id);
    if (!meant || entry->container.engine != engine) continue;
    entry->successor_until = loop_.now() + kSuccession;
  }
}

void Registry::add_elsewhere(std::string_view engine, std::string_view address,
                             std::string reason) {
  Sighting sighting;
  sighting.identity = {std::string(engine), std::string(address), names::printable(address)};
  sighting.inaccessible = std::move(reason);
  sighting.kept = true;
  add(std::move(sighting));
}

}  // namespace portfwd
