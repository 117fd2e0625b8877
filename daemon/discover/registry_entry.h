// The Registry's private part: one container with what holds it. Included by the registry's own
// sources only.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "discover/registry.h"

namespace portfwd {

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
