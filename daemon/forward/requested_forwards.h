// The forwards that were requested: manually, in the configuration, or by the metadata of
// containers. Owned by the ForwardTable; its reconcile step assigns listeners to them.
//
// Every request has one forward. While the container exists, the forward has a key in it; while it
// is away, the forward has its away_key() and waits for the next container of that name.
#pragma once

#include <functional>
#include <list>
#include <set>
#include <span>
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

// The list of all requests, in both directions, in the order in which they were made. Owned by
// RequestedForwards, which creates a forward for each. It changes no forward.
class RequestBook {
 public:
  /// @param on_persistent_changed called when save() has something new to save
  explicit RequestBook(std::function<void()> on_persistent_changed)
      : on_persistent_changed_(std::move(on_persistent_changed)) {}

  /// Checks whether one more manual request is permitted; the refusal names the remedy.
  [[nodiscard]] Answer<void> check_manual_limit() const;
  /// @param request with the id of its forward @return the added one, valid until it is removed
  ForwardRequest& add(ForwardRequest request);
  /// Removes the request for a forward, if there is one.
  void remove(std::string_view forward_id);
  /// Removes all requests of a container.
  void remove_of(std::string_view container_id);
  void clear() { requests_.clear(); }

  [[nodiscard]] ForwardRequest* find(std::string_view forward_id);
  [[nodiscard]] const ForwardRequest* find(std::string_view forward_id) const;
  [[nodiscard]] std::vector<const ForwardRequest*> of(std::string_view container_id) const;
  /// The ids of the forwards that have this bus name as their lifeline.
  [[nodiscard]] std::vector<std::string> of_lifeline(std::string_view bus_name) const;
  /// Sets `forwards` to the persistent requests, see restored_request(). Other requests end with
  /// the daemon.
  void save(State& state) const;

  /// In the order of add().
  [[nodiscard]] auto begin() { return requests_.begin(); }
  [[nodiscard]] auto end() { return requests_.end(); }

 private:
  std::function<void()> on_persistent_changed_;
  std::list<ForwardRequest> requests_;
};

/// The declared forwards: those of the user's configuration and those of containers' metadata.
/// Owned by RequestedForwards, which makes a request for each.
class Declarations {
 public:
  /// @param settings borrowed
  Declarations(const Settings& settings, const Clock& clock)
      : settings_(settings), metadata_policy_(clock) {}

  [[nodiscard]] MetadataPolicy& metadata_policy() { return metadata_policy_; }
  [[nodiscard]] const MetadataPolicy& metadata_policy() const { return metadata_policy_; }

  /// The forwards of the configuration, without those that an engine serves; one for each share and
  /// present container; and then those of metadata, without those that the configuration declares.
  [[nodiscard]] std::vector<DeclaredForward> all() const;
  /// Notes which forwards of the configuration the container's engine serves: it publishes the port
  /// on the host's loopback, at the declared host port if there is one. This stays noted while the
  /// container is away, since the engine needs the host port for the next container of this name.
  /// @return whether all() changed
  bool note_published(const Container& container);
  /// Notes that there is a watched container of this name, for the shares of the configuration.
  /// @return whether all() may have changed
  bool note_present(const std::string& container) {
    return present_.insert(container).second && !settings_.shares.empty();
  }
  bool note_absent(const std::string& container) {
    return present_.erase(container) != 0 && !settings_.shares.empty();
  }

 private:
  [[nodiscard]] std::vector<DeclaredForward> shares() const;

  const Settings& settings_;
  std::set<std::string> present_;  ///< names of watched containers
  MetadataPolicy metadata_policy_;
  /// Container names and declared ports that an engine serves, until it serves one no longer for a
  /// container of the name.
  std::set<std::pair<std::string, Target>> published_;
};

/// Creates, keeps and ends the forwards of requests; see above.
class RequestedForwards {
 public:
  struct Parts {
    ForwardSet& forwards;
    std::function<PolicyContext()> policy;
    /// A watched container of this name; null if there is none.
    std::function<ContainerAccess*(const std::string& name)> find_watched;
    /// Marks a container to be reconciled.
    std::function<void(const std::string& container_id)> mark;
    std::function<void()> on_persistent_changed;  ///< book() has something new to save
  };
  /// @param settings borrowed
  RequestedForwards(Parts parts, const Settings& settings, const Clock& clock)
      : forwards_(parts.forwards),
        policy_(std::move(parts.policy)),
        find_watched_(std::move(parts.find_watched)),
        mark_(std::move(parts.mark)),
        settings_(settings),
        declarations_(settings, clock),
        book_(std::move(parts.on_persistent_changed)) {}

  [[nodiscard]] const RequestBook& book() const { return book_; }
  [[nodiscard]] MetadataPolicy& metadata_policy() { return declarations_.metadata_policy(); }
  [[nodiscard]] const MetadataPolicy& metadata_policy() const {
    return declarations_.metadata_policy();
  }

  /// Adds a request and creates its forward, or takes over a detected one. The container is marked,
  /// not reconciled. @param access to the container; null while it is away @return the forward's id
  Answer<std::string> insert(ContainerAccess* access, ForwardRequest request);
  /// Ends a forward, and the request for it if there is one.
  void end(ListedForward& listed, std::string_view reason);
  /// The same at the user's request. A declared one stays away until the settings are read again or
  /// it is no longer declared.
  void dismiss(ListedForward& listed);
  /// Ends a forward that is to be created again. A request for it gets a new forward id.
  void replace(ListedForward& listed);

  /// Must be called when the settings were read again.
  void on_settings_changed() {
    dismissed_.clear();
    due_ = true;
  }
  /// Notes that the declarations may have changed.
  void set_due() { due_ = true; }
  [[nodiscard]] bool due() const { return due_; }
  /// If due(), reconciles the requests with the declarations. Unchanged ones stay.
  void make_declared();

  /// Must be called for a new container and when its name, labels, state or published ports
  /// changed.
  void update_container(ContainerAccess& access);
  /// Must be called for each watched container after the settings changed; see Declarations.
  void note_published(const Container& container);
  /// Must be called before a container is removed. Requests that may wait for the next container of
  /// its name do so; the others end.
  void leave_container(const Container& container, RemovalReason reason);
  void clear() { book_.clear(); }

 private:
  Answer<std::string> make(ContainerAccess* access, const ForwardKey& key, ForwardRequest request);
  void make_waiting(const ForwardRequest& request, const ForwardKey& key,
                    const Container* container, std::span<const Listener> listeners);
  void reconcile_declared();
  void declare(const DeclaredForward& declared);
  void update_waiting();
  void rename_waiting(const Container& container);
  void adopt(const Container& container);
  void release(ForwardRequest& request, std::string_view reason);
  void release_misnamed(const Container& container);

  ForwardSet& forwards_;
  std::function<PolicyContext()> policy_;
  std::function<ContainerAccess*(const std::string&)> find_watched_;
  std::function<void(const std::string&)> mark_;
  const Settings& settings_;
  Declarations declarations_;
  RequestBook book_;
  std::vector<DeclaredForward> dismissed_;  ///< ended by the user
  bool due_ = false;
};

}  // namespace portfwd
