// Which containers there are. Owns every Container and the pidfd that tells its end; Discovery puts
// them in, people attach and detach them, everyone else observes. Owned by main. It does not look
// for containers and knows nothing of listeners.
//
// An entry lives as long as something holds it: an anchor (a process in it, by pidfd), or a path (a
// named namespace), or the person who attached its descriptor. When the anchor exits, the census is
// asked for another process of that container. A detached container stays as an entry that nobody
// sees, with its namespace pinned, so that it is not found again while it lives.
//
// Several containers may share a network namespace, as in a pod; an engine's id tells them apart.
// Processes that no engine's id is known of belong to the first that was found there.
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

/// What tells one container from another.
struct ContainerKey {
  std::uint64_t netns = 0;  ///< or what stands for one that can't be seen; 0: nothing does
  std::string engine_id;    ///< "" when it has none or is not known
  friend auto operator<=>(const ContainerKey&, const ContainerKey&) = default;
};

/// Knows which processes there are; implemented by Discovery.
class Census {
 public:
  /// What is known now of the container of `key`, by a process in it.
  [[nodiscard]] virtual Identity identify(pid_t pid, const ContainerKey& key) const = 0;
  /// Some anchors have exited: look now, then settle() every one of `orphans()`.
  virtual void on_orphans() = 0;

 protected:
  ~Census() = default;
};

class Registry {
 public:
  /// What is known of a container of an engine without asking the engine.
  struct FirstWord {
    std::string name;  ///< "" when it is not known; and so the image
    std::string image;
    bool asked = false;  ///< and the engine is being asked for the rest
  };
  using TellFirst = std::function<FirstWord(const Container& container)>;

  /// Longest wait of the listeners of a container for its engine's answer; see
  /// Container::undecided.
  static constexpr Duration kWaitForEngine = std::chrono::milliseconds(400);

  /// All are borrowed and outlive the registry.
  Registry(EventLoop& loop, const ProcDir& proc, const Identifier& identifier,
           const Boundary& boundary);
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;
  ~Registry();

  void add_observer(RegistryObserver& observer) { observers_.push_back(&observer); }
  void remove_observer(RegistryObserver& observer) noexcept { std::erase(observers_, &observer); }

  // For people.
  [[nodiscard]] std::vector<const Container*> containers() const;
  [[nodiscard]] const Container* find(std::string_view id) const;
  /// @param text an id, a name, or an unambiguous beginning of an id (the engine's full id too)
  [[nodiscard]] Answer<const Container*> resolve(std::string_view text) const;
  /// @param name "" for one of our making
  Answer<const Container*> attach_pid(pid_t pid, std::string_view name);
  /// With a path in our mount namespace it lasts until detached or until the path is gone; else
  /// until detached or, if processes were in it, until the last of them is gone.
  Answer<const Container*> attach_netns(UniqueFd netns, std::string_view name);
  /// Forgets the container; it is not found again while its namespace lives, unless attached.
  Answer<void> detach(std::string_view id);

  // Across a restart of the daemon.
  [[nodiscard]] ContainerIds& ids() { return ids_; }
  [[nodiscard]] const ContainerIds& ids() const { return ids_; }
  /// The containers, and those of the last life that have not been found again, for the next one.
  [[nodiscard]] std::vector<KnownContainer> known() const;

  // For Discovery.
  void set_census(Census* census) noexcept { census_ = census; }
  [[nodiscard]] bool knows(const ContainerKey& key) const { return entries_.contains(key); }
  [[nodiscard]] bool knows_engine_id(std::string_view engine_id) const;
  /// The one that was found first of those in that namespace, forgotten ones too.
  [[nodiscard]] std::optional<ContainerKey> first_in(std::uint64_t netns) const;
  /// @return nullptr when it is known already.
  const Container* add(Sighting sighting);
  [[nodiscard]] std::vector<ContainerKey> orphans() const;
  /// Whether one of them is in a namespace that cannot be seen.
  [[nodiscard]] bool has_unseen_orphan() const;
  /// The census's answer for one orphan. @param anchor without a pidfd when nobody is left there
  void settle(const ContainerKey& key, pid_t pid, UniqueFd pidfd);
  /// The anchor left its namespace although it lives.
  void drop_anchor(const ContainerKey& key);
  /// The containers that a process holds, forgotten ones too.
  [[nodiscard]] std::vector<std::pair<ContainerKey, pid_t>> anchors() const;
  [[nodiscard]] pid_t anchor_of(const ContainerKey& key) const;
  /// A name that a person gave is kept, and so is an engine's id once it is known.
  void identify(const ContainerKey& key, const Identity& identity);
  /// What the container's engine says of it. A name that a person gave is kept here, too; the
  /// engine's is from here on not replaced by one from /proc.
  void learn(const ContainerFacts& facts);
  /// No engine says anything of it.
  void learn_nothing(const std::string& engine_id);
  /// The engine's new name for it.
  void rename(std::string_view engine_id, std::string_view name);
  /// The engine's container of this name, or whose id begins so, is about to make way for another
  /// of its name: should it end within a minute, it counts as replaced.
  void expect_successor(std::string_view engine, std::string_view name_or_id);
  /// Lists an engine whose containers are out of reach. @param address shown as its name
  void add_elsewhere(std::string_view engine, std::string_view address, std::string reason);
  /// Called before a container of an engine is announced.
  void set_tell_first(TellFirst tell) { tell_first_ = std::move(tell); }
  /// It has a listener: the name that its program gives it is looked up once more, and stays then.
  void fix_name(std::string_view id);
  void sign_of_life(const ContainerKey& key);
  /// The named namespaces there are now, by inode: what had a path and is not among them loses it.
  void set_paths(const std::map<std::uint64_t, std::string>& paths);

 private:
  class Entry;
  using Entries = std::map<ContainerKey, std::unique_ptr<Entry>>;

  void on_exit(Entry& entry);
  void remove(const ContainerKey& key, RemovalReason reason);
  void remove_if_unheld(const ContainerKey& key);
  void announce(Entry& entry);
  void take_first_word(Entry& entry);
  void end_waiting();
  void share_published(const Entry& owner);
  void changed(const Entry& entry);
  Entry& rename_key(Entries::const_iterator entry, std::string engine_id);
  const Container* attach(Sighting sighting, std::string_view name);
  [[nodiscard]] std::string path_of(const Netns& netns) const;
  [[nodiscard]] Entries::const_iterator entry_of(std::string_view id) const;
  [[nodiscard]] Entry* entry_of_engine_id(std::string_view engine_id) const;

  EventLoop& loop_;
  const ProcDir& proc_;
  const Identifier& identifier_;
  const Boundary& boundary_;
  Census* census_ = nullptr;
  TellFirst tell_first_;
  Timer wait_;  ///< for engines' answers
  std::vector<RegistryObserver*> observers_;
  Entries entries_;
  ContainerIds ids_;
  std::uint64_t found_ = 0;  ///< entries ever made
};

// The Registry's private part: one container with what holds it. Included by the registry's own
// sources only.
class Registry::Entry {
 public:
  Entry(Registry& owner, ContainerKey the_key, std::uint64_t the_place, Sighting sighting)
      : key(std::move(the_key)), place(the_place), registry_(owner) {
    container.name = std::move(sighting.identity.name);
    container.engine = std::move(sighting.identity.engine);
    container.engine_id = key.engine_id;
    container.cgroup_id = sighting.identity.cgroup_id;
    container.cgroup = std::move(sighting.identity.cgroup);
    container.on_host = sighting.on_host;
    container.uid = sighting.uid;
    container.pid = sighting.pid;
    if (sighting.netns) {
      container.netns = key.netns;
      container.netns_fd = sighting.netns->release();
    }
    container.path = std::move(sighting.path);
    container.publishes_unknown = sighting.publishes;
    container.attached = sighting.attached;
    named_by_person = sighting.named;
    kept = sighting.kept;
    container.inaccessible = std::move(sighting.inaccessible);
    if (sighting.pidfd.valid()) hold_on(owner.loop_, sighting.pid, std::move(sighting.pidfd));
  }

  /// Tells the registry once when its process has exited.
  class Anchor final : private IoHandler, public Retirable {
   public:
    Anchor(EventLoop& loop, Registry& registry, Entry& entry, UniqueFd pidfd)
        : registry_(registry),
          entry_(entry),
          pidfd_(std::move(pidfd)),
          source_(loop, pidfd_.get(), *this) {}
    /// @return false when the loop would not take it
    bool watch() { return source_.watch(EPOLLIN).has_value(); }
    void disarm() { source_.disarm(); }

   private:
    void on_io(IoSource&, std::uint32_t) override { registry_.on_exit(entry_); }
    Registry& registry_;
    Entry& entry_;
    UniqueFd pidfd_;
    IoSource source_;
  };

  void hold_on(EventLoop& loop, pid_t pid, UniqueFd pidfd) {
    auto fresh = std::make_unique<Anchor>(loop, registry_, *this, std::move(pidfd));
    if (!fresh->watch()) return;
    release_anchor(loop);
    anchor = std::move(fresh);
    orphan = false;
    container.pid = pid;
    const auto stat = registry_.proc_.stat(pid);
    container.started = stat ? stat->started : 0;
  }
  void release_anchor(EventLoop& loop) {
    if (!anchor) return;
    anchor->disarm();
    loop.retire(std::move(anchor));
    orphan = true;
  }
  /// @return whether that changes the name
  bool rename_by_engine(std::string_view name) {
    std::string shown = names::printable(name);
    if (shown.empty() || named_by_person) return false;
    named_by_engine = true;
    return std::exchange(container.name, std::move(shown)) != container.name;
  }
  [[nodiscard]] bool named() const { return named_by_person || named_by_engine || name_fixed; }
  [[nodiscard]] KnownContainer known() const {
    return {.id = container.id,
            .name = container.name,
            .engine = container.engine,
            .engine_id = key.engine_id,
            .netns = key.netns,
            .pid = container.pid,
            .started = container.started};
  }
  [[nodiscard]] bool held() const { return anchor || orphan || kept || !container.path.empty(); }

  Container container;
  ContainerKey key;
  const std::uint64_t place;  ///< in the order in which containers were found
  std::unique_ptr<Anchor> anchor;
  bool orphan = false;     ///< its anchor has exited, the census has not yet answered
  bool forgotten = false;  ///< detached: nobody sees it
  bool kept = false;       ///< a person attached its descriptor, nothing else may hold it
  bool named_by_person = false;
  bool named_by_engine = false;
  bool name_fixed = false;  ///< forwards have been told under it
  TimePoint undecided_until{};
  std::string network_owner;    ///< the engine's id of the container whose network it has joined
  TimePoint successor_until{};  ///< its end before then is the beginning of its successor

 private:
  Registry& registry_;
};

}  // namespace portfwd
