// See registry.h: entries, their anchors, and what is said to the observers.

#include "discover/registry.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "discover/container.h"
#include "kernel/netns.h"
#include "kernel/procfs.h"

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
  auto former_id = ids_.recall(entry.known());
  entry.container.recalled = former_id.has_value();
  entry.container.id = former_id ? std::move(*former_id) : ids_.make(key.engine_id);
  take_first_word(entry);                                  // before anybody can find it
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
  if (!entry.anchor) {
    entry.container.pid = 0;
    entry.container.started = 0;
  }
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

std::vector<KnownContainer> Registry::known() const {
  std::vector<KnownContainer> all;
  for (const auto& [key, entry] : entries_) {
    if (!entry->forgotten) all.push_back(entry->known());
  }
  all.insert(all.end(), ids_.former().begin(), ids_.former().end());
  return all;
}

// What people ask of the Registry: find by text, attach, detach; each refusal says what to do.
namespace {

using Kind = Refusal::Kind;

constexpr std::size_t kMountinfoLimit = 1 << 20;

constexpr std::size_t kMostNamed = 8;  ///< of the containers that a refusal lists

/// @param by_name whether `text` is the name of all of them, else their ids begin so
std::unexpected<Refusal> ambiguous(std::string_view text, std::span<const Container* const> all,
                                   bool by_name) {
  std::string ids;
  for (const Container* container : all.first(std::min(all.size(), kMostNamed))) {
    ids += (ids.empty() ? "" : ", ") + container->id;
  }
  if (all.size() > kMostNamed) ids += fmt::format(" and {} more", all.size() - kMostNamed);
  const std::string what = names::printable(text);
  return refuse(Kind::Ambiguous,
                by_name ? fmt::format("{} containers are called \"{}\": name one by its id: {}",
                                      all.size(), what, ids)
                        : fmt::format("\"{}\" may be any of {}: give more of the id", what, ids));
}

Refusal why_not_held(pid_t pid, const Error& error) {
  if (error.code == EACCES || error.code == EPERM) {
    return {Kind::Inaccessible,
            fmt::format("process {} belongs to another user: run portfwd as that user or as root",
                        pid)};
  }
  if (error.code == ESRCH || error.code == ENOENT || error.code == EINVAL) {
    return {Kind::InvalidArgument,
            fmt::format("there is no process {}: give the pid of one that runs in the container, "
                        "as the host counts",
                        pid)};
  }
  return {Kind::Failed, fmt::format("process {}: {}", pid, error.text())};
}

Answer<void> check(const Boundary& boundary, const Netns& netns, const Boundary::Verdict& verdict) {
  if (boundary.is_ours(netns.inode())) {
    return refuse(Kind::InvalidArgument,
                  "this is the network namespace that portfwd itself runs in or was started from: "
                  "its ports need no forwarding");
  }
  if (verdict.outside) {
    return refuse(Kind::Inaccessible,
                  "the namespace belongs to a user namespace outside portfwd's own: run portfwd "
                  "outside of this container");
  }
  if (!verdict.inaccessible.empty()) return refuse(Kind::Inaccessible, verdict.inaccessible);
  return {};
}

}  // namespace

Answer<const Container*> Registry::resolve(std::string_view text) const {
  if (text.empty()) return refuse(Kind::InvalidArgument, "name a container: its id or its name");
  if (const Container* exact = find(text)) return exact;
  std::vector<const Container*> named, begun;
  for (const auto& [key, entry] : entries_) {
    if (entry->forgotten) continue;
    const Container& container = entry->container;
    if (container.name == text) named.push_back(&container);
    const bool begins = container.id.starts_with(text) || container.engine_id.starts_with(text);
    if (begins) begun.push_back(&container);
  }
  const auto& hits = named.empty() ? begun : named;
  if (hits.size() == 1) return hits.front();
  if (!hits.empty()) return ambiguous(text, hits, !named.empty());
  return refuse(Kind::NoSuchContainer,
                fmt::format("there is no container \"{}\": `portfwdctl containers --all` has them "
                            "all, `portfwdctl attach` adds one",
                            names::printable(text)));
}

Answer<const Container*> Registry::attach_pid(pid_t pid, std::string_view name) {
  if (pid <= 0) return refuse(Kind::InvalidArgument, "a pid is a number from 1 on");
  auto held = hold(proc_, pid);
  if (!held) return std::unexpected(why_not_held(pid, held.error()));
  const Boundary::Verdict verdict = boundary_.judge(held->netns);
  if (auto allowed = check(boundary_, held->netns, verdict); !allowed) {
    return std::unexpected(allowed.error());
  }
  Sighting sighting;
  sighting.pid = pid;
  sighting.pidfd = std::move(held->pidfd);
  sighting.uid = verdict.owner;
  sighting.netns = std::move(held->netns);
  sighting.identity = identifier_.identify(pid);
  return attach(std::move(sighting), name);
}

Answer<const Container*> Registry::attach_netns(UniqueFd fd, std::string_view name) {
  auto netns = Netns::adopt(std::move(fd));
  if (!netns) {
    return refuse(Kind::InvalidArgument,
                  "this is no network namespace: give a file such as /run/netns/NAME or "
                  "/proc/PID/ns/net");
  }
  const Boundary::Verdict verdict = boundary_.judge(*netns);
  if (auto allowed = check(boundary_, *netns, verdict); !allowed) {
    return std::unexpected(allowed.error());
  }
  Sighting sighting;
  sighting.uid = verdict.owner;
  sighting.path = path_of(*netns);
  sighting.kept = sighting.path.empty();
  const std::string base = sighting.path.substr(sighting.path.rfind('/') + 1);
  sighting.identity = {"netns", "", base.empty() ? fmt::format("netns-{}", netns->inode()) : base};
  sighting.netns = std::move(*netns);
  return attach(std::move(sighting), name);
}

const Container* Registry::attach(Sighting sighting, std::string_view name) {
  ContainerKey key{sighting.netns->inode(), sighting.identity.engine_id};
  const bool new_there = !key.engine_id.empty() && !knows_engine_id(key.engine_id);
  if (!knows(key) && !new_there) key = first_in(key.netns).value_or(key);
  sighting.attached = true;
  sighting.named = !name.empty();
  if (sighting.named) sighting.identity.name = names::printable(name);
  const auto known = entries_.find(key);
  if (known == entries_.end()) return add(std::move(sighting));

  Entry& entry = *known->second;
  entry.container.attached = true;
  if (!sighting.path.empty()) entry.container.path = sighting.path;
  // A namespace in which processes are seen ends with them; the descriptor alone has no end.
  entry.kept = entry.kept || (sighting.kept && !entry.anchor);
  if (sighting.named) entry.container.name = sighting.identity.name;
  entry.named_by_person = entry.named_by_person || sighting.named;
  if (std::exchange(entry.forgotten, false)) {
    entry.container.id = ids_.make(entry.container.engine_id);
    entry.container.recalled = false;
    announce(entry);
  } else {
    changed(entry);
  }
  return &entry.container;
}

Answer<void> Registry::detach(std::string_view id) {
  const auto it = entry_of(id);
  if (it == entries_.end()) {
    return refuse(Kind::NoSuchContainer,
                  fmt::format("there is no container \"{}\"", names::printable(id)));
  }
  Entry& entry = *it->second;
  entry.forgotten = true;
  entry.kept = false;
  entry.container.attached = entry.named_by_person = false;
  for (std::size_t i = 0; i < observers_.size(); ++i) {
    observers_[i]->on_container_removed(entry.container, RemovalReason::Detached);
  }
  remove_if_unheld(ContainerKey(entry.key));
  return {};
}

std::string Registry::path_of(const Netns& netns) const {
  const std::string file = proc_.path() + "/self/mountinfo";
  const std::string text = read_text(AT_FDCWD, file.c_str(), kMountinfoLimit).value_or("");
  for (const procfs::Mount& mount : procfs::parse_mountinfo(text)) {
    if (mount.type == "nsfs" && procfs::parse_netns_link(mount.root) == netns.inode()) {
      return mount.point;
    }
  }
  return {};
}

// What engines tell the Registry of their containers. See registry.h.
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
