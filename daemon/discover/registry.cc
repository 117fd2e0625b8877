// See registry.h.

#include "discover/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <span>

#include "kernel/procfs.h"

namespace portfwd {

namespace {

using Kind = Refusal::Kind;

constexpr std::size_t kMostListed = 8;                     // containers listed in a refusal
constexpr Duration kSuccession = std::chrono::minutes(1);  // engines wait 10 s by default

/// @param by_name `text` is the name of each container, not a prefix of its id
std::unexpected<Refusal> ambiguous(std::string_view text, std::span<const Container* const> all,
                                   bool by_name) {
  std::string ids;
  for (const Container* container : all.first(std::min(all.size(), kMostListed))) {
    ids += (ids.empty() ? "" : ", ") + container->id;
  }
  if (all.size() > kMostListed) ids += fmt::format(" and {} more", all.size() - kMostListed);
  const std::string what = names::printable(text);
  return refuse(
      Kind::Ambiguous,
      by_name ? fmt::format("{} containers have the name \"{}\"; use one of their ids: {}",
                            all.size(), what, ids)
              : fmt::format("\"{}\" is a prefix of several ids: {}; use a longer one", what, ids));
}

}  // namespace

// --- entries -------------------------------------------------------------------------------------

/// Watch on the pidfd of an anchor process. Reports its exit once.
class ContainerEntry::Anchor final : private IoHandler, public Retirable {
 public:
  Anchor(EventLoop& loop, ContainerEntry& entry, UniqueFd pidfd)
      : entry_(entry), pidfd_(std::move(pidfd)), source_(loop, pidfd_.get(), *this) {}
  /// @return false if the loop does not accept it
  bool watch() { return source_.watch(EPOLLIN).has_value(); }
  void disarm() { source_.disarm(); }

 private:
  void on_io(IoSource&, std::uint32_t) override { entry_.registry_.on_anchor_exit(entry_); }

  ContainerEntry& entry_;
  UniqueFd pidfd_;
  IoSource source_;
};

ContainerEntry::ContainerEntry(Registry& registry, ContainerKey the_key,
                               std::uint64_t sequence_number, DiscoveredContainer found)
    : key(std::move(the_key)), sequence(sequence_number), registry_(registry) {
  container.name = std::move(found.identity.name);
  container.engine = std::move(found.identity.engine);
  container.engine_id = key.engine_id;
  container.cgroup_id = found.identity.cgroup_id;
  container.cgroup = std::move(found.identity.cgroup);
  container.on_host = found.on_host;
  container.uid = found.uid;
  container.pid = found.pid;
  if (found.netns) {
    assert(found.netns->inode() == key.netns);
    container.netns = key.netns;
    container.netns_fd = found.netns->release();
  }
  container.path = std::move(found.path);
  container.publishes_unknown = found.publishes;
  container.attached = found.attached;
  named_by_user = found.named_by_user;
  held_by_request = found.held_by_request;
  container.inaccessible = std::move(found.inaccessible);
  if (found.pidfd.valid()) set_anchor(registry.loop_, found.pid, std::move(found.pidfd));
}

ContainerEntry::~ContainerEntry() = default;

void ContainerEntry::set_anchor(EventLoop& loop, pid_t pid, UniqueFd pidfd) {
  assert(pid > 0 && pidfd.valid());
  auto fresh = std::make_unique<Anchor>(loop, *this, std::move(pidfd));
  if (!fresh->watch()) return;
  drop_anchor(loop);
  anchor_ = std::move(fresh);
  orphan = false;
  container.pid = pid;
  const auto stat = registry_.proc_.stat(pid);
  container.started = stat ? stat->started : 0;
}

void ContainerEntry::drop_anchor(EventLoop& loop) {
  if (!anchor_) return;
  anchor_->disarm();
  loop.retire(std::move(anchor_));
  orphan = true;
}

bool ContainerEntry::rename_by_engine(std::string_view name) {
  std::string shown = names::printable(name);
  if (shown.empty() || named_by_user) return false;
  named_by_engine = true;
  return std::exchange(container.name, std::move(shown)) != container.name;
}

KnownContainer ContainerEntry::known() const {
  return {.id = container.id,
          .name = container.name,
          .engine = container.engine,
          .engine_id = key.engine_id,
          .netns = key.netns,
          .pid = container.pid,
          .started = container.started};
}

// --- index ---------------------------------------------------------------------------------------

const ContainerEntry* ContainerIndex::find(const ContainerKey& key) const {
  const auto it = entries_.find(key);
  return it == entries_.end() ? nullptr : it->second.get();
}

ContainerEntry* ContainerIndex::find(const ContainerKey& key) {
  const auto it = entries_.find(key);
  return it == entries_.end() ? nullptr : it->second.get();
}

ContainerEntry* ContainerIndex::find_by_id(std::string_view id) const {
  const auto it = std::ranges::find_if(entries_, [id](const auto& known) {
    return !known.second->detached && known.second->container.id == id;
  });
  return it == entries_.end() ? nullptr : it->second.get();
}

ContainerEntry* ContainerIndex::find_by_engine_id(std::string_view engine_id) const {
  const auto it = std::ranges::find_if(entries_, [engine_id](const auto& known) {
    return !engine_id.empty() && known.first.engine_id == engine_id;
  });
  return it == entries_.end() ? nullptr : it->second.get();
}

bool ContainerIndex::has_engine_id(std::string_view engine_id) const {
  return find_by_engine_id(engine_id) != nullptr;
}

std::optional<ContainerKey> ContainerIndex::first_in(std::uint64_t netns) const {
  const ContainerEntry* first = nullptr;
  for (auto it = entries_.lower_bound({netns, ""}); it != entries_.end(); ++it) {
    if (it->first.netns != netns) break;
    if (first == nullptr || it->second->sequence < first->sequence) first = it->second.get();
  }
  return first == nullptr ? std::nullopt : std::optional(first->key);
}

ContainerKey ContainerIndex::key_for(const ContainerKey& own) const {
  if (own.netns == 0 || contains(own)) return own;
  if (!own.engine_id.empty() && !has_engine_id(own.engine_id)) return own;
  return first_in(own.netns).value_or(ContainerKey{own.netns, ""});
}

pid_t ContainerIndex::anchor_of(const ContainerKey& key) const {
  const ContainerEntry* entry = find(key);
  return entry == nullptr || !entry->has_anchor() ? 0 : entry->container.pid;
}

std::vector<std::pair<ContainerKey, pid_t>> ContainerIndex::anchors() const {
  std::vector<std::pair<ContainerKey, pid_t>> all;
  for (const auto& [key, entry] : entries_) {
    if (entry->has_anchor()) all.emplace_back(key, entry->container.pid);
  }
  return all;
}

std::vector<ContainerKey> ContainerIndex::orphans() const {
  std::vector<ContainerKey> keys;
  for (const auto& [key, entry] : entries_) {
    if (entry->orphan) keys.push_back(key);
  }
  return keys;
}

bool ContainerIndex::has_unseen_orphan() const {
  return std::ranges::any_of(entries_, [](const auto& known) {
    return known.second->orphan && known.second->container.netns == 0;
  });
}

ContainerEntry& ContainerIndex::insert(std::unique_ptr<ContainerEntry> entry) {
  ContainerKey key = entry->key;
  const auto [place, inserted] = entries_.emplace(std::move(key), std::move(entry));
  assert(inserted);
  return *place->second;
}

std::unique_ptr<ContainerEntry> ContainerIndex::extract(const ContainerKey& key) {
  auto node = entries_.extract(key);
  return node.empty() ? nullptr : std::move(node.mapped());
}

void ContainerIndex::set_engine_id(ContainerEntry& entry, std::string engine_id) {
  assert(!has_engine_id(engine_id));
  auto node = entries_.extract(entry.key);
  assert(!node.empty());
  node.key().engine_id = std::move(engine_id);
  entry.key = node.key();
  entry.container.engine_id = entry.key.engine_id;
  [[maybe_unused]] const bool inserted = entries_.insert(std::move(node)).inserted;
  assert(inserted);
}

// --- registry ------------------------------------------------------------------------------------

template <class Notification>
void Registry::notify(Notification notification) {
  for (std::size_t i = 0; i < observers_.size(); ++i) notification(*observers_[i]);
}

void Registry::notify_changed(const ContainerEntry& entry) {
  if (entry.detached) return;
  notify([&](RegistryObserver& each) { each.on_container_changed(entry.container); });
}

void Registry::notify_sign_of_life(const ContainerKey& key) {
  const ContainerEntry* entry = index_.find(key);
  if (entry == nullptr || entry->detached) return;
  notify([&](RegistryObserver& each) { each.on_sign_of_life(entry->container); });
}

std::vector<const Container*> Registry::containers() const {
  std::vector<const Container*> all;
  for (const auto& [key, entry] : index_) {
    if (!entry->detached) all.push_back(&entry->container);
  }
  return all;
}

const Container* Registry::find(std::string_view id) const {
  const ContainerEntry* entry = index_.find_by_id(id);
  return entry == nullptr ? nullptr : &entry->container;
}

const Container* Registry::add(DiscoveredContainer found) {
  Identity& identity = found.identity;
  ContainerKey key{found.netns ? found.netns->inode() : found.net_files, identity.engine_id};
  if (index_.contains(key)) return nullptr;
  const ContainerEntry* same = index_.find_by_engine_id(identity.engine_id);
  if (found.netns && same != nullptr && same->container.netns == 0) {  // it has become visible
    remove(ContainerKey(same->key), RemovalReason::Replaced);
  }
  if (index_.has_engine_id(identity.engine_id)) {  // a sandbox inside that engine's container
    identity.engine.clear();
    identity.engine_id.clear();
    if (!found.named_by_user) {
      identity.name = names::from_program(proc_.comm(found.pid), found.pid);
    }
    key.engine_id.clear();
    if (index_.contains(key)) return nullptr;
  }

  auto made = std::make_unique<ContainerEntry>(*this, key, ++found_, std::move(found));
  auto former_id = ids_.recall(made->known());
  made->container.recalled = former_id.has_value();
  made->container.id = former_id ? std::move(*former_id) : ids_.make(key.engine_id);
  assert(index_.find_by_id(made->container.id) == nullptr);  // never used twice
  if (!key.engine_id.empty()) {
    notify([&](RegistryObserver& each) { each.on_engine_known(*made); });
  }
  const ContainerEntry& entry = index_.insert(std::move(made));
  notify([&](RegistryObserver& each) { each.on_container_added(entry.container); });
  return &entry.container;
}

const Container* Registry::attach(DiscoveredContainer found, std::string_view name) {
  assert(found.netns);
  ContainerKey key{found.netns->inode(), found.identity.engine_id};
  const bool new_there = !key.engine_id.empty() && !index_.has_engine_id(key.engine_id);
  if (!index_.contains(key) && !new_there) key = index_.first_in(key.netns).value_or(key);
  found.attached = true;
  found.named_by_user = !name.empty();
  if (found.named_by_user) found.identity.name = names::printable(name);
  ContainerEntry* const entry = index_.find(key);
  if (entry == nullptr) return add(std::move(found));

  Container& container = entry->container;
  container.attached = true;
  if (!found.path.empty()) container.path = found.path;
  // A container with an anchor ends with its processes. Without one only the request holds it.
  entry->held_by_request |= found.held_by_request && !entry->has_anchor();
  if (found.named_by_user) container.name = found.identity.name;
  entry->named_by_user |= found.named_by_user;
  if (std::exchange(entry->detached, false)) {
    container.id = ids_.make(container.engine_id);
    container.recalled = false;
    notify([&](RegistryObserver& each) { each.on_container_added(container); });
  } else {
    notify_changed(*entry);
  }
  return &container;
}

Answer<void> Registry::detach(std::string_view id) {
  ContainerEntry* const entry = index_.find_by_id(id);
  if (entry == nullptr) {
    return refuse(Kind::NoSuchContainer,
                  fmt::format("there is no container \"{}\"", names::printable(id)));
  }
  entry->detached = true;
  entry->held_by_request = false;
  entry->container.attached = entry->named_by_user = false;
  notify([&](RegistryObserver& each) {
    each.on_container_removed(entry->container, RemovalReason::Detached);
  });
  remove_if_unheld(ContainerKey(entry->key));
  return {};
}

void Registry::remove(const ContainerKey& key, RemovalReason reason) {
  const std::unique_ptr<ContainerEntry> entry = index_.extract(key);
  if (!entry || entry->detached) return;
  const bool succeeded = loop_.now() < entry->successor_until;
  if (succeeded && reason == RemovalReason::Gone) reason = RemovalReason::Replaced;
  notify([&](RegistryObserver& each) { each.on_container_removed(entry->container, reason); });
}

void Registry::remove_if_unheld(const ContainerKey& key) {
  const ContainerEntry* entry = index_.find(key);
  if (entry != nullptr && !entry->is_held()) remove(key, RemovalReason::Gone);
}

// --- anchors -------------------------------------------------------------------------------------

void Registry::on_anchor_exit(ContainerEntry& entry) {
  entry.drop_anchor(loop_);
  assert(entry.orphan);
  if (on_orphan_) return on_orphan_();
  remove_dead(ContainerKey(entry.key));
}

void Registry::replace_anchor(const ContainerKey& key, pid_t pid, UniqueFd pidfd) {
  ContainerEntry* const entry = index_.find(key);
  if (entry == nullptr) return;
  const pid_t before = entry->container.pid;
  entry->set_anchor(loop_, pid, std::move(pidfd));
  if (!entry->has_anchor()) return remove_dead(ContainerKey(key));  // the loop did not accept it
  if (entry->container.pid != before) notify_changed(*entry);
}

void Registry::remove_dead(const ContainerKey& key) {
  ContainerEntry* const entry = index_.find(key);
  if (entry == nullptr) return;
  assert(!entry->has_anchor());
  entry->orphan = false;
  if (!entry->is_held()) return remove(ContainerKey(key), RemovalReason::Gone);
  entry->container.started = 0;
  if (std::exchange(entry->container.pid, 0) != 0) notify_changed(*entry);
}

void Registry::drop_anchor(const ContainerKey& key) {
  if (ContainerEntry* entry = index_.find(key)) entry->drop_anchor(loop_);
}

// --- names and other facts -----------------------------------------------------------------------

void Registry::identify(const ContainerKey& key, const Identity& identity) {
  ContainerEntry* const entry = index_.find(key);
  if (entry == nullptr) return;
  const bool other = identity.engine_id != key.engine_id;
  if (other && (!key.engine_id.empty() || index_.has_engine_id(identity.engine_id))) return;
  if (other) {  // the engine of a recent container has become known
    index_.set_engine_id(*entry, identity.engine_id);
    entry->name_fixed = false;
    entry->container.engine = identity.engine;  // which the observers go by
    notify([&](RegistryObserver& each) { each.on_engine_known(*entry); });
  }
  Container& container = entry->container;
  const bool same = (entry->has_final_name() || container.name == identity.name) &&
                    container.engine == identity.engine && !other &&
                    container.cgroup_id == identity.cgroup_id &&
                    container.cgroup == identity.cgroup;
  if (same) return;
  container.engine = identity.engine;
  container.cgroup_id = identity.cgroup_id;
  container.cgroup = identity.cgroup;
  if (!entry->has_final_name()) container.name = identity.name;
  notify_changed(*entry);
}

void Registry::fix_name(std::string_view id) {
  if (ContainerEntry* entry = index_.find_by_id(id)) entry->name_fixed = true;
}

void Registry::expect_successor(std::string_view engine, std::string_view name_or_id) {
  if (name_or_id.empty()) return;
  for (const auto& [key, entry] : index_) {
    const bool meant = entry->container.name == name_or_id || key.engine_id.starts_with(name_or_id);
    if (!meant || entry->container.engine != engine) continue;
    entry->successor_until = loop_.now() + kSuccession;
  }
}

void Registry::set_paths(const std::map<std::uint64_t, std::string>& paths) {
  std::vector<ContainerKey> lost;
  for (const auto& [key, entry] : index_) {
    std::string& path = entry->container.path;
    const auto found = paths.find(key.netns);
    std::string now = found == paths.end() ? std::string() : found->second;
    if (!key.engine_id.empty() && !now.empty()) now = path;  // an engine's only by attach()
    if (std::exchange(path, now) != now && now.empty()) lost.push_back(key);
  }
  for (const ContainerKey& key : lost) remove_if_unheld(key);
}

std::vector<KnownContainer> Registry::known() const {
  std::vector<KnownContainer> all;
  for (const auto& [key, entry] : index_) {
    if (!entry->detached) all.push_back(entry->known());
  }
  all.insert(all.end(), ids_.former().begin(), ids_.former().end());
  return all;
}

Answer<const Container*> Registry::resolve(std::string_view text) const {
  if (text.empty())
    return refuse(Kind::InvalidArgument, "no container given: give a name or an id");
  if (const Container* exact = find(text)) return exact;
  std::vector<const Container*> named, prefixed;
  for (const auto& [key, entry] : index_) {
    if (entry->detached) continue;
    const Container& container = entry->container;
    if (container.name == text) named.push_back(&container);
    const bool begins = container.id.starts_with(text) || container.engine_id.starts_with(text);
    if (begins) prefixed.push_back(&container);
  }
  const auto& hits = named.empty() ? prefixed : named;
  if (hits.size() == 1) return hits.front();
  if (!hits.empty()) return ambiguous(text, hits, !named.empty());
  return refuse(Kind::NoSuchContainer,
                fmt::format("there is no container \"{}\"", names::printable(text)));
}

}  // namespace portfwd
