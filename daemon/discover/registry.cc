// See registry.h: entries, their anchors, and what is said to the observers.
#include "discover/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <charconv>

#include "discover/registry_entry.h"
#include "kernel/pidfd.h"

namespace portfwd {

Registry::Registry(EventLoop& loop, const ProcDir& proc, const Identifier& identifier,
                   const Boundary& boundary)
    : loop_(loop), proc_(proc), identifier_(identifier), boundary_(boundary), wait_(loop, [this] {
        end_waiting();
      }) {}

Registry::~Registry() = default;

std::vector<const Container*> Registry::containers() const {
  std::vector<const Container*> all;
  for (const auto& [key, entry] : entries_) {
    if (!entry->forgotten) all.push_back(&entry->container);
  }
  return all;
}

Registry::Entries::const_iterator Registry::entry_of(std::string_view id) const {
  return std::ranges::find_if(entries_, [id](const auto& known) {
    return !known.second->forgotten && known.second->container.id == id;
  });
}

const Container* Registry::find(std::string_view id) const {
  const auto it = entry_of(id);
  return it == entries_.end() ? nullptr : &it->second->container;
}

bool Registry::knows_engine_id(std::string_view engine_id) const {
  return !engine_id.empty() && std::ranges::any_of(entries_, [engine_id](const auto& known) {
    return known.first.engine_id == engine_id;
  });
}

std::optional<ContainerKey> Registry::first_in(std::uint64_t netns) const {
  const Entry* first = nullptr;
  for (auto it = entries_.lower_bound({netns, ""}); it != entries_.end(); ++it) {
    if (it->first.netns != netns) break;
    if (first == nullptr || it->second->place < first->place) first = it->second.get();
  }
  return first == nullptr ? std::nullopt : std::optional(first->key);
}

const Container* Registry::add(Sighting sighting) {
  Identity& identity = sighting.identity;
  ContainerKey key{sighting.netns ? sighting.netns->inode() : sighting.net_files,
                   identity.engine_id};
  if (knows(key)) return nullptr;
  const Entry* same = entry_of_engine_id(identity.engine_id);
  if (sighting.netns && same != nullptr && same->container.netns == 0) {  // it can be seen now
    remove(ContainerKey(same->key), RemovalReason::Replaced);
  }
  if (knows_engine_id(identity.engine_id)) {  // a sandbox inside that engine's container
    identity.engine.clear();
    identity.engine_id.clear();
    if (!sighting.named)
      identity.name = names::from_program(proc_.comm(sighting.pid), sighting.pid);
    key.engine_id.clear();
    if (knows(key)) return nullptr;
  }

  auto made = std::make_unique<Entry>(*this, key, ++found_, std::move(sighting));
  Entry& entry = *made;
  entry.container.id = new_id(key.engine_id);
  take_first_word(entry);  // before anybody can find it
  assert(entry_of(entry.container.id) == entries_.end());  // never used twice
  assert(entry.key == key);
  [[maybe_unused]] const bool added = entries_.emplace(std::move(key), std::move(made)).second;
  assert(added);
  announce(entry);
  return &entry.container;
}

void Registry::announce(Entry& entry) {
  for (std::size_t i = 0; i < observers_.size(); ++i) {
    observers_[i]->on_container_added(entry.container);
  }
}

void Registry::take_first_word(Entry& entry) {
  Container& container = entry.container;
  if (!tell_first_ || container.engine_id.empty()) return;
  const FirstWord word = tell_first_(container);
  (void)entry.rename_by_engine(word.name);
  if (!word.image.empty()) container.image = names::printable(word.image, names::kLongestText);
  container.undecided = word.asked;
  if (!word.asked) return;
  entry.undecided_until = loop_.now() + kWaitForEngine;
  if (!wait_.armed()) wait_.arm_at(entry.undecided_until);
}

void Registry::end_waiting() {
  const TimePoint now = loop_.now();
  TimePoint next = TimePoint::max();
  std::vector<Entry*> over;
  for (const auto& [key, entry] : entries_) {
    if (!entry->container.undecided) continue;
    if (entry->undecided_until <= now)
      over.push_back(entry.get());
    else
      next = std::min(next, entry->undecided_until);
  }
  if (next != TimePoint::max()) wait_.arm_at(next);
  for (Entry* entry : over) {
    entry->container.undecided = false;
    changed(*entry);
  }
}

void Registry::fix_name(std::string_view id) {
  const auto it = entry_of(id);
  if (it == entries_.end() || it->second->named()) return;
  const ContainerKey key = it->first;
  if (census_ != nullptr && it->second->anchor) {
    const Identity now = census_->identify(it->second->container.pid, key);
    if (now.complete) identify(key, now);
  }
  if (const auto again = entry_of(id); again != entries_.end()) again->second->name_fixed = true;
}

void Registry::changed(const Entry& entry) {
  if (entry.forgotten) return;
  for (std::size_t i = 0; i < observers_.size(); ++i) {
    observers_[i]->on_container_changed(entry.container);
  }
}

void Registry::remove(const ContainerKey& key, RemovalReason reason) {
  const auto node = entries_.extract(key);
  if (node.empty() || node.mapped()->forgotten) return;
  const bool succeeded = loop_.now() < node.mapped()->successor_until;
  if (succeeded && reason == RemovalReason::Gone) reason = RemovalReason::Replaced;
  for (std::size_t i = 0; i < observers_.size(); ++i) {
    observers_[i]->on_container_removed(node.mapped()->container, reason);
  }
}

void Registry::remove_if_unheld(const ContainerKey& key) {
  const auto it = entries_.find(key);
  if (it != entries_.end() && !it->second->held()) remove(key, RemovalReason::Gone);
}

void Registry::on_exit(Entry& entry) {
  entry.release_anchor(loop_);
  if (census_ != nullptr) return census_->on_orphans();
  settle(ContainerKey(entry.key), 0, UniqueFd());
}

std::vector<ContainerKey> Registry::orphans() const {
  std::vector<ContainerKey> keys;
  for (const auto& [key, entry] : entries_) {
    if (entry->orphan) keys.push_back(key);
  }
  return keys;
}

bool Registry::has_unseen_orphan() const {
  return std::ranges::any_of(entries_, [](const auto& known) {
    return known.second->orphan && known.second->container.netns == 0;
  });
}

void Registry::settle(const ContainerKey& key, pid_t pid, UniqueFd pidfd) {
  const auto it = entries_.find(key);
  if (it == entries_.end()) return;
  Entry& entry = *it->second;
  const pid_t before = entry.container.pid;
  entry.orphan = false;
  if (pidfd.valid()) entry.hold_on(loop_, pid, std::move(pidfd));
  if (!entry.held()) return remove(ContainerKey(key), RemovalReason::Gone);
  if (!entry.anchor) entry.container.pid = 0;
  if (entry.container.pid != before) changed(entry);
}

void Registry::drop_anchor(const ContainerKey& key) {
  const auto it = entries_.find(key);
  if (it != entries_.end()) it->second->release_anchor(loop_);
}

pid_t Registry::anchor_of(const ContainerKey& key) const {
  const auto it = entries_.find(key);
  return it == entries_.end() || !it->second->anchor ? 0 : it->second->container.pid;
}

std::vector<std::pair<ContainerKey, pid_t>> Registry::anchors() const {
  std::vector<std::pair<ContainerKey, pid_t>> all;
  for (const auto& [key, entry] : entries_) {
    if (entry->anchor) all.emplace_back(key, entry->container.pid);
  }
  return all;
}

void Registry::identify(const ContainerKey& key, const Identity& identity) {
  const auto it = entries_.find(key);
  if (it == entries_.end()) return;
  const bool other = identity.engine_id != key.engine_id;
  if (other && (!key.engine_id.empty() || knows_engine_id(identity.engine_id))) return;
  Entry& entry = other ? rename_key(it, identity.engine_id) : *it->second;
  if (other) {
    entry.name_fixed = false;
    take_first_word(entry);
  }
  Container& container = entry.container;
  const bool same =
      (entry.named() || container.name == identity.name) && container.engine == identity.engine &&
      !other && container.cgroup_id == identity.cgroup_id && container.cgroup == identity.cgroup;
  if (same) return;
  container.engine = identity.engine;
  container.cgroup_id = identity.cgroup_id;
  container.cgroup = identity.cgroup;
  if (!entry.named()) container.name = identity.name;
  changed(entry);
}

/// A young container's engine became known.
Registry::Entry& Registry::rename_key(Entries::const_iterator entry, std::string engine_id) {
  auto node = entries_.extract(entry);
  node.key().engine_id = std::move(engine_id);
  Entry& renamed = *node.mapped();
  renamed.key = node.key();
  renamed.container.engine_id = node.key().engine_id;
  [[maybe_unused]] const bool inserted = entries_.insert(std::move(node)).inserted;
  assert(inserted);  // nobody else has that engine id
  return renamed;
}

void Registry::sign_of_life(const ContainerKey& key) {
  const auto it = entries_.find(key);
  if (it == entries_.end() || it->second->forgotten) return;
  for (std::size_t i = 0; i < observers_.size(); ++i) {
    observers_[i]->on_sign_of_life(it->second->container);
  }
}

void Registry::set_paths(const std::map<std::uint64_t, std::string>& paths) {
  std::vector<ContainerKey> lost;
  for (const auto& [key, entry] : entries_) {
    if (!key.engine_id.empty()) continue;  // it ends with its processes
    const auto found = paths.find(key.netns);
    const std::string now = found == paths.end() ? std::string() : found->second;
    if (std::exchange(entry->container.path, now) != now && now.empty()) lost.push_back(key);
  }
  for (const ContainerKey& key : lost) remove_if_unheld(key);
}

/// "a1b2c3d4e5f6" when the engine has such an id that was not used before, else "n7".
std::string Registry::new_id(const std::string& engine_id) {
  if (!names::is_hex_id(engine_id)) return fmt::format("n{}", ++made_ids_);
  std::string brief = engine_id.substr(0, 12);
  std::uint64_t number = 0;
  std::from_chars(brief.data(), brief.data() + brief.size(), number, 16);
  const auto place = std::ranges::lower_bound(used_engine_ids_, number);
  const bool used = place != used_engine_ids_.end() && *place == number;
  if (used) return fmt::format("{}-{}", brief, ++made_ids_);  // it was restarted
  used_engine_ids_.insert(place, number);
  return brief;
}

}  // namespace portfwd
