// Registry of the containers that exist. Owns every Container and the pidfd that reports the exit
// of its anchor process. Discovery and AttachRequests add containers, EngineFacts completes them,
// other parts observe. Owned by main. It does not search for containers and has no knowledge of
// listeners.
//
// States of an entry:
// - *Anchored*: one process of the container, the anchor process, is pinned by a pidfd.
// - *Orphan*: the anchor has exited or left the namespace. Whether another process of the container
//   lives is not yet known; replace_anchor() or remove_dead() must follow.
// - *Held without a process*: a path (of a named namespace) or a request keeps the entry. An entry
//   in none of these three states is removed.
// - *Detached*: in addition to one of these. The container is not listed. Its namespace stays
//   pinned, so that the container is not added again while the entry exists.
//
// Several containers may share a network namespace, as in a pod; they differ by the engine's id. A
// process without a known engine's id belongs to the container that was found there first.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "discover/container.h"
#include "discover/identity.h"
#include "event/event_loop.h"

namespace portfwd {

class Registry;

/// A container with its state in the registry.
class ContainerEntry {
 public:
  /// @param sequence_number in the order in which containers were found
  ContainerEntry(Registry& registry, ContainerKey the_key, std::uint64_t sequence_number,
                 DiscoveredContainer found);
  ContainerEntry(const ContainerEntry&) = delete;
  ContainerEntry& operator=(const ContainerEntry&) = delete;
  ~ContainerEntry();

  /// Replace the anchor. The previous one is kept if the loop does not accept the new one.
  void set_anchor(EventLoop& loop, pid_t pid, UniqueFd pidfd);
  /// Make the entry an orphan. Does nothing without an anchor.
  void drop_anchor(EventLoop& loop);
  [[nodiscard]] bool has_anchor() const { return anchor_ != nullptr; }

  /// Set the name that the engine reports, unless the user has given one.
  /// @return whether the name changed
  bool rename_by_engine(std::string_view name);
  /// Whether a name derived from its processes must not replace the present one.
  [[nodiscard]] bool has_final_name() const {
    return named_by_user || named_by_engine || name_fixed;
  }
  /// The record that identifies the container after a restart of the daemon.
  [[nodiscard]] KnownContainer known() const;
  /// Whether the entry stays in the registry; see the states above.
  [[nodiscard]] bool is_held() const {
    return anchor_ || orphan || held_by_request || !container.path.empty();
  }

  Container container;
  ContainerKey key;
  const std::uint64_t sequence;
  bool orphan = false;
  bool detached = false;
  bool held_by_request = false;
  bool named_by_user = false;
  bool named_by_engine = false;
  bool name_fixed = false;      ///< forwards have been announced under this name
  TimePoint successor_until{};  ///< a removal before this time counts as a replacement

 private:
  class Anchor;

  Registry& registry_;
  std::unique_ptr<Anchor> anchor_;
};

/// The entries by key, detached ones included, with lookups by id, engine's id and namespace.
class ContainerIndex {
 public:
  using Entries = std::map<ContainerKey, std::unique_ptr<ContainerEntry>>;

  [[nodiscard]] bool contains(const ContainerKey& key) const { return entries_.contains(key); }
  [[nodiscard]] bool has_engine_id(std::string_view engine_id) const;
  [[nodiscard]] const ContainerEntry* find(const ContainerKey& key) const;
  [[nodiscard]] ContainerEntry* find(const ContainerKey& key);
  /// Detached entries are not found. @param id of the Container
  [[nodiscard]] ContainerEntry* find_by_id(std::string_view id) const;
  [[nodiscard]] ContainerEntry* find_by_engine_id(std::string_view engine_id) const;
  /// The key of the container that was found first in the namespace.
  [[nodiscard]] std::optional<ContainerKey> first_in(std::uint64_t netns) const;
  /// The key of the container of a process, known or not. A process without an engine's id belongs
  /// to the first container of its namespace. So does one whose engine's id is known with another
  /// namespace: it is in a sandbox inside that engine's container.
  /// @param own the process's namespace and engine's id
  [[nodiscard]] ContainerKey key_for(const ContainerKey& own) const;

  /// Pid of the anchor. @return 0 if the container has none or is not known
  [[nodiscard]] pid_t anchor_of(const ContainerKey& key) const;
  [[nodiscard]] std::vector<std::pair<ContainerKey, pid_t>> anchors() const;
  [[nodiscard]] std::vector<ContainerKey> orphans() const;
  /// Whether the namespace of an orphan is not visible.
  [[nodiscard]] bool has_unseen_orphan() const;

  /// The key must not be in the index.
  ContainerEntry& insert(std::unique_ptr<ContainerEntry> entry);
  /// @return null if there is none
  std::unique_ptr<ContainerEntry> extract(const ContainerKey& key);
  /// No other entry must have that id.
  void set_engine_id(ContainerEntry& entry, std::string engine_id);

  [[nodiscard]] Entries::const_iterator begin() const { return entries_.begin(); }
  [[nodiscard]] Entries::const_iterator end() const { return entries_.end(); }

 private:
  Entries entries_;
};

class Registry {
 public:
  /// Both are borrowed and must outlive the registry.
  Registry(EventLoop& loop, const ProcDir& proc) : loop_(loop), proc_(proc) {}
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  void add_observer(RegistryObserver& observer) { observers_.push_back(&observer); }
  void remove_observer(RegistryObserver& observer) noexcept { std::erase(observers_, &observer); }

  [[nodiscard]] std::vector<const Container*> containers() const;  ///< without detached ones
  [[nodiscard]] const Container* find(std::string_view id) const;
  /// Look up a container for a request. @param text an id, a name, or an unambiguous prefix of an
  /// id or of an engine's id
  [[nodiscard]] Answer<const Container*> resolve(std::string_view text) const;
  [[nodiscard]] const ContainerIndex& index() const { return index_; }

  [[nodiscard]] ContainerIds& ids() { return ids_; }
  [[nodiscard]] const ContainerIds& ids() const { return ids_; }
  /// The containers to save for the next start of the daemon: the present ones, and those of the
  /// last run that have not been found yet.
  [[nodiscard]] std::vector<KnownContainer> known() const;

  /// @return null if the container is already known
  const Container* add(DiscoveredContainer found);
  /// Add the container by request, or list it again if it was detached. Its namespace must be
  /// visible. @param name "": the one in `found`
  const Container* attach(DiscoveredContainer found, std::string_view name);
  /// Stop listing the container. While its entry exists, only attach() lists it again.
  Answer<void> detach(std::string_view id);

  /// @param on_orphan called when an anchor has exited: replace_anchor() or remove_dead() must
  /// follow for each of index().orphans(). Without it a container ends with its anchor.
  void set_on_orphan(std::move_only_function<void()> on_orphan) {
    on_orphan_ = std::move(on_orphan);
  }
  /// Make another live process of the container its anchor.
  void replace_anchor(const ContainerKey& key, pid_t pid, UniqueFd pidfd);
  /// Remove an orphan in which no process is left, unless a path or a request holds it.
  void remove_dead(const ContainerKey& key);
  /// Make the container an orphan: its anchor is alive but does not belong to it any longer.
  void drop_anchor(const ContainerKey& key);

  /// Update the container to the identity that /proc shows. A final name and a known engine's id
  /// are kept.
  void identify(const ContainerKey& key, const Identity& identity);
  /// Call `change(ContainerEntry&)` for the container with that engine's id, if there is one.
  /// Notify the observers if it returns true, which means that something changed.
  template <class Change>
  void update(std::string_view engine_id, Change change) {
    ContainerEntry* entry = index_.find_by_engine_id(engine_id);
    if (entry != nullptr && change(*entry)) notify_changed(*entry);
  }
  /// Note that a container is about to be replaced by another one of its name. If it ends within a
  /// minute, its removal is reported as Replaced.
  /// @param name_or_id its name, or a prefix of the engine's id
  void expect_successor(std::string_view engine, std::string_view name_or_id);
  /// Keep the present name even if /proc shows another one later: forwards are announced under it.
  void fix_name(std::string_view id);
  void notify_sign_of_life(const ContainerKey& key);
  /// Update the paths of containers without an engine's id. @param paths of the named namespaces
  /// that exist, by inode; a container whose namespace is not among them loses its path
  void set_paths(const std::map<std::uint64_t, std::string>& paths);

 private:
  friend class ContainerEntry;

  void on_anchor_exit(ContainerEntry& entry);
  void remove(const ContainerKey& key, RemovalReason reason);
  void remove_if_unheld(const ContainerKey& key);
  /// @param notification called with each observer
  template <class Notification>
  void notify(Notification notification);
  void notify_changed(const ContainerEntry& entry);

  EventLoop& loop_;
  const ProcDir& proc_;
  std::move_only_function<void()> on_orphan_;
  std::vector<RegistryObserver*> observers_;
  ContainerIndex index_;
  ContainerIds ids_;
  std::uint64_t found_ = 0;  ///< entries made so far
};

}  // namespace portfwd
