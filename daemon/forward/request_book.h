// Forwards that were asked for: by hand, in the configuration or by a container's own metadata, in
// both directions. A request may outlive its forward's container, and waits for the next one of
// that name then. Owned by the ForwardTable, which makes a forward for each; it knows no forward
// and binds nothing.
#pragma once

#include <functional>
#include <list>
#include <string>
#include <string_view>
#include <vector>

#include "forward/forward_request.h"

namespace portfwd {

class RequestBook {
 public:
  /// @param on_persistent_changed persistent() is not what it was
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
  /// What the daemon's next life is to ask for again.
  [[nodiscard]] std::vector<ForwardSpec> persistent() const;

  /// In the order in which they were asked for.
  [[nodiscard]] auto begin() { return requests_.begin(); }
  [[nodiscard]] auto end() { return requests_.end(); }

 private:
  std::function<void()> on_persistent_changed_;
  std::list<ForwardRequest> requests_;
};

}  // namespace portfwd
