// The containers that exist. Owns every Container and the pidfd that reports the exit of a process
// in it. Discovery and requests to attach add containers, EngineFacts completes them, everyone else
// observes. Owned by main. It does not look for containers and knows nothing of listeners.
//
// States of an entry. *Anchored*: a process in the container, its anchor, is held by pidfd.
// *Orphan*: the anchor has exited, and whether another process of the container lives is not yet
// known: replace_anchor() or remove_dead() follows. *Held without a process*: a path (a named
// namespace) or a request to attach keeps it. An entry with none of these is removed.
// *Detached*: it is not listed, and its namespace stays pinned, so that the container is not found
// again while it lives.
//
// Several containers may share a network namespace, as in a pod; the engine's id tells them apart.
// A process without a known engine's id belongs to the container that was found there first.
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

/// One container and what keeps it in the registry.
class ContainerEntry {
 public:
  /// @param sequence_number in the order in which containers were found
  ContainerEntry(Registry& registry, ContainerKey the_key, std::uint64_t sequence_number,
                 DiscoveredContainer found);
  ContainerEntry(const ContainerEntry&) = delete;
  ContainerEntry& operator=(const ContainerEntry&) = delete;
  ~ContainerEntry();

  /// Keeps the anchor that it has when the loop does not accept the new one.
  void set_anchor(EventLoop& loop, pid_t pid, UniqueFd pidfd);
  /// Makes it an orphan; does nothing without an anchor.
  void drop_anchor(EventLoop& loop);
  [[nodiscard]] bool has_anchor() const { return anchor_ != nullptr; }

  /// The name that the engine has for it; one that the user gave is kept.
  /// @return whether the name changed
  bool rename_by_engine(std::string_view name);
  /// Whether a name guessed from its processes must not replace the one that it has.
  [[nodiscard]] bool has_final_name() const {
    return named_by_user || named_by_engine || name_fixed;
  }
  /// What identifies it in the daemon's next life.
  [[nodiscard]] KnownContainer known() const;
  /// Whether anything keeps it in the registry; see the states above.
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
  bool name_fixed = false;      ///< forwards have been announced under it
  TimePoint successor_until{};  ///< a removal before then makes way for its successor

 private:
  class Anchor;

  Registry& registry_;
  std::unique_ptr<Anchor> anchor_;
};

/// The entries by key, detached ones included, and look-ups by what else identifies one.
class ContainerIndex {
 public:
  using Entries = std::map<ContainerKey, std::unique_ptr<ContainerEntry>>;

  [[nodiscard]] bool contains(const ContainerKey& key) const { return entries_.contains(key); }
  [[nodiscard]] bool has_engine_id(std::string_view engine_id) const;
  [[nodiscard]] const ContainerEntry* find(const ContainerKey& key) const;
  [[nodiscard]] ContainerEntry* find(const ContainerKey& key);
  /// Not a detached one. @param id of the Container
  [[nodiscard]] ContainerEntry* find_by_id(std::string_view id) const;
  [[nodiscard]] ContainerEntry* find_by_engine_id(std::string_view engine_id) const;
  /// The key of the container that was found first in that namespace.
  [[nodiscard]] std::optional<ContainerKey> first_in(std::uint64_t netns) const;
  /// The key of the container of a process, known or not: one without an engine's id belongs to the
  /// first container of its namespace, and so does one in a sandbox with a namespace of its own
  /// inside an engine's container. @param own the process's namespace and engine's id
  [[nodiscard]] ContainerKey key_for(const ContainerKey& own) const;

  /// @return 0 for a container without an anchor, and one that is not known
  [[nodiscard]] pid_t anchor_of(const ContainerKey& key) const;
  [[nodiscard]] std::vector<std::pair<ContainerKey, pid_t>> anchors() const;
  [[nodiscard]] std::vector<ContainerKey> orphans() const;
  /// Whether one of the orphans is in a namespace that cannot be seen.
  [[nodiscard]] bool has_unseen_orphan() const;

  /// Its key must not be there.
  ContainerEntry& insert(std::unique_ptr<ContainerEntry> entry);
  /// @return null when it is not there
  std::unique_ptr<ContainerEntry> extract(const ContainerKey& key);
  /// No other entry may have that id.
  void set_engine_id(ContainerEntry& entry, std::string engine_id);

  [[nodiscard]] Entries::const_iterator begin() const { return entries_.begin(); }
  [[nodiscard]] Entries::const_iterator end() const { return entries_.end(); }

 private:
  Entries entries_;
};

class Registry {
 public:
  /// Both are borrowed and outlive the registry.
  Registry(EventLoop& loop, const ProcDir& proc) : loop_(loop), proc_(proc) {}
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  void add_observer(RegistryObserver& observer) { observers_.push_back(&observer); }
  void remove_observer(RegistryObserver& observer) noexcept { std::erase(observers_, &observer); }

  [[nodiscard]] std::vector<const Container*> containers() const;  ///< without detached ones
  [[nodiscard]] const Container* find(std::string_view id) const;
  /// @param text an id, a name, or an unambiguous beginning of an id (the engine's full id too)
  [[nodiscard]] Answer<const Container*> resolve(std::string_view text) const;
  [[nodiscard]] const ContainerIndex& index() const { return index_; }

  // Across a restart of the daemon.
  [[nodiscard]] ContainerIds& ids() { return ids_; }
  [[nodiscard]] const ContainerIds& ids() const { return ids_; }
  /// The containers, and those of the last life that have not been found again, for the next one.
  [[nodiscard]] std::vector<KnownContainer> known() const;

  /// @return null when it is known already
  const Container* add(DiscoveredContainer found);
  /// Adds it by request, or takes it in again if it was detached. Its namespace must be seen.
  /// @param name "" for one of our making
  const Container* attach(DiscoveredContainer found, std::string_view name);
  /// Hides the container; it is not found again while its namespace lives, unless attached.
  Answer<void> detach(std::string_view id);

  /// @param on_orphan called when an anchor has exited: replace_anchor() or remove_dead() must
  /// follow for each of index().orphans(). Without it a container ends with its anchor.
  void set_on_orphan(std::move_only_function<void()> on_orphan) {
    on_orphan_ = std::move(on_orphan);
  }
  /// A process of the container that lives becomes its anchor.
  void replace_anchor(const ContainerKey& key, pid_t pid, UniqueFd pidfd);
  /// No process is left in that orphan: removes it unless a path or a request holds it.
  void remove_dead(const ContainerKey& key);
  /// The anchor left its namespace although it lives.
  void drop_anchor(const ContainerKey& key);

  /// What /proc says of the container now. A final name is kept, and so is an engine's id.
  void identify(const ContainerKey& key, const Identity& identity);
  /// Calls `change(ContainerEntry&)` for the container with that engine's id, if there is one, and
  /// notifies the observers if it returns that something changed.
  template <class Change>
  void update(std::string_view engine_id, Change change) {
    ContainerEntry* entry = index_.find_by_engine_id(engine_id);
    if (entry != nullptr && change(*entry)) notify_changed(*entry);
  }
  /// The engine's container of this name, or whose id begins so, is about to be replaced by another
  /// of its name: if it ends within a minute, it counts as replaced.
  void expect_successor(std::string_view engine, std::string_view name_or_id);
  /// Its forwards are announced under the name that it has: one from /proc does not change any
  /// more.
  void fix_name(std::string_view id);
  void notify_sign_of_life(const ContainerKey& key);
  /// @param paths of the named namespaces that exist, by inode; a container whose path is not among
  /// them loses it
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
  std::uint64_t found_ = 0;  ///< entries ever made
};

}  // namespace portfwd
