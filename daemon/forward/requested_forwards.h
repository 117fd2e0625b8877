// Makes and keeps the forwards that were asked for: by hand, in the configuration, by the metadata
// of containers. Owned by the ForwardTable, whose reconcile step gives them their listeners.
//
// Every request has a forward. While its container is there, its forward is among that container's;
// while it is away the forward waits under away_key(), for the next container of the name.
#pragma once

#include <functional>
#include <list>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "access/container_access.h"
#include "config/settings.h"
#include "forward/forward_set.h"
#include "forward/model.h"
#include "forward/plan.h"
#include "policy/container_wishes.h"

namespace portfwd {

// Forwards that were asked for: by hand, in the configuration or by a container's own metadata, in
// both directions. A request may outlive its forward's container, and waits for the next one of
// that name then. Owned by the ForwardTable, which makes a forward for each; it knows no forward
// and binds nothing.
class RequestBook {
 public:
  /// @param on_persistent_changed save() gives something else
  explicit RequestBook(std::function<void()> on_persistent_changed)
      : on_persistent_changed_(std::move(on_persistent_changed)) {}

  /// Whether there may be one more by hand; the refusal names the remedy.
  [[nodiscard]] Answer<void> has_room_by_hand() const;
  /// @param request with the id of its forward @return it, valid until it is removed
  ForwardRequest& add(ForwardRequest request);
  /// Removes the request for a forward, if there is one.
  void remove(std::string_view forward_id);
  /// Those whose container is gone and that did not wait for the next.
  void remove_of(std::string_view container_id);
  void clear() { requests_.clear(); }

  [[nodiscard]] ForwardRequest* find(std::string_view forward_id);
  [[nodiscard]] const ForwardRequest* find(std::string_view forward_id) const;
  [[nodiscard]] std::vector<const ForwardRequest*> of(std::string_view container_id) const;
  /// The ids of the forwards that end with a name on the bus.
  [[nodiscard]] std::vector<std::string> of_lifeline(std::string_view bus_name) const;
  /// Sets `forwards`: what the daemon's next life is to ask for again, as restored_request() has
  /// it. Other requests end with the daemon.
  void save(State& state) const;

  /// In the order in which they were asked for.
  [[nodiscard]] auto begin() { return requests_.begin(); }
  [[nodiscard]] auto end() { return requests_.end(); }

 private:
  std::function<void()> on_persistent_changed_;
  std::list<ForwardRequest> requests_;
};

/// The forwards that are declared: by the user's configuration, and by the metadata of containers.
/// Owned by the ForwardTable, which makes a request for each.
class Declarations {
 public:
  /// @param settings borrowed
  Declarations(const Settings& settings, const Clock& clock)
      : settings_(settings), wishes_(clock) {}

  [[nodiscard]] ContainerWishes& wishes() { return wishes_; }
  [[nodiscard]] const ContainerWishes& wishes() const { return wishes_; }

  /// The user's own but for those that an engine serves already, and what containers ask for
  /// besides.
  [[nodiscard]] std::vector<DeclaredForward> all() const;
  /// Notes whether the container's engine leads to what the settings declare, at the host port that
  /// they name, if any. It is going to need that host port for the next container of this name,
  /// too.
  /// @return whether all() changed
  bool note_published(const Container& container);

 private:
  const Settings& settings_;
  ContainerWishes wishes_;
  /// What the settings declare and an engine publishes, by the container's name, until a container
  /// of that name is seen without.
  std::set<std::pair<std::string, Target>> published_;
};

class RequestedForwards {
 public:
  struct Parts {
    ForwardSet& forwards;
    std::function<PolicyContext()> policy;
    /// A container of this name that can be entered; null if there is none.
    std::function<ContainerAccess*(const std::string& name)> named;
    /// The forwards of a container are to be reconciled.
    std::function<void(const std::string& container_id)> mark;
    std::function<void()> on_persistent_changed;  ///< book().save() gives something else
  };
  /// @param settings borrowed
  RequestedForwards(Parts parts, const Settings& settings, const Clock& clock)
      : forwards_(parts.forwards),
        policy_(std::move(parts.policy)),
        named_(std::move(parts.named)),
        mark_(std::move(parts.mark)),
        settings_(settings),
        declarations_(settings, clock),
        book_(std::move(parts.on_persistent_changed)) {}

  [[nodiscard]] const RequestBook& book() const { return book_; }
  [[nodiscard]] ContainerWishes& wishes() { return declarations_.wishes(); }
  [[nodiscard]] const ContainerWishes& wishes() const { return declarations_.wishes(); }

  /// Makes the forward of a request; its container is marked, not reconciled.
  /// @param access to its container; null while it is away @return the forward's id
  Answer<std::string> insert(ContainerAccess* access, ForwardRequest request);
  /// Ends a forward, with the request for it if there is one.
  void end(TiedForward& tied, std::string_view reason);
  /// Ends a forward, to be created again for the same request; ids are never used twice.
  void replace(TiedForward& tied);

  /// What is declared may have changed: make_declared() is due.
  void set_due() { due_ = true; }
  [[nodiscard]] bool due() const { return due_; }
  /// If it is due, makes what is declared and what exists one; what is unchanged stays as it is.
  void make_declared();

  /// A container is new, or its name, labels, state or published ports changed.
  void follow_container(ContainerAccess& access);
  void note_published(const Container& container);
  /// A container goes: the requests that may wait do so, the others end with it.
  void leave_container(const Container& container, RemovalReason reason);
  void clear() { book_.clear(); }

 private:
  Answer<std::string> make(ContainerAccess* access, const ForwardKey& key, ForwardRequest request);
  void make_waiting(const ForwardRequest& request, const ForwardKey& key,
                    const Container* container);
  void reconcile_declared();
  void declare(const DeclaredForward& declared);
  void treat_waiting();
  void inherit(const Container& container);
  void adopt(const Container& container);
  void release(ForwardRequest& request, std::string_view reason);
  void release_misnamed(const Container& container);

  ForwardSet& forwards_;
  std::function<PolicyContext()> policy_;
  std::function<ContainerAccess*(const std::string&)> named_;
  std::function<void(const std::string&)> mark_;
  const Settings& settings_;
  Declarations declarations_;
  RequestBook book_;
  bool due_ = false;
};

}  // namespace portfwd
