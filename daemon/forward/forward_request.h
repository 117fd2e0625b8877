// What people asked for, by hand or in the configuration: one request for each manual or declared
// forward, kept while the container is away if it was said so. Owned by the ForwardTable.
#pragma once

#include <string>
#include <vector>

#include "base/refusal.h"
#include "config/rule.h"
#include "discover/container.h"
#include "forward/model.h"
#include "net/target.h"
#include "state/state.h"

namespace portfwd {

struct ForwardRequest {
  ForwardSpec spec;  ///< its container is the name, once that is known
  std::string forward_id;
  std::string container_id;                    ///< "" while the container is away
  std::string lifeline;                        ///< bus name whose end ends the forward; "" for none
  Origin origin = Origin::Manual;              ///< or Declared
  bool by_container = false;                   ///< its own metadata asks for it, not the user
  std::string asked_by = "asked for by hand";  ///< for `explain`
  bool restored = false;  ///< nobody waits for an answer: a host port that is taken is a conflict

  /// Whether a container that has come is the one that was meant.
  [[nodiscard]] bool meant(const Container& container) const {
    return container_id.empty() && spec.container == container.name;
  }
};

/// Of what the configuration, or a container's metadata, declares. It waits for its container.
[[nodiscard]] ForwardRequest declared_request(const DeclaredForward& declared);
/// Of what the daemon's last life kept.
[[nodiscard]] ForwardRequest restored_request(ForwardSpec kept);

/// More than a person asks for, by hand and at a time.
inline constexpr std::ptrdiff_t kMostManualRequests = 256;

/// `by_hand` are there already: whether there may be one more.
[[nodiscard]] Answer<void> check_count(std::ptrdiff_t by_hand);

/// What a request says of a container, a target or a label is kept, told and logged: no more than
/// this many bytes of each.
inline constexpr std::size_t kLongestRequestText = 256;
/// @param what for the refusal, such as "the label"
[[nodiscard]] Answer<void> check_length(std::string_view what, std::string_view text);
/// Of all texts in it.
[[nodiscard]] Answer<void> check_lengths(const ForwardSpec& spec);

/// The checked form of what a person typed; refusals name the remedy.
[[nodiscard]] Answer<Target> check_target(std::string_view text);
/// @param allow_remote whether the configuration allows to listen for other machines
[[nodiscard]] Answer<void> check(const ForwardRequest& request, bool allow_remote);

/// The listeners of `all` that the request means: those on its port and, if it names an address
/// inside, reachable there and then dialled there.
[[nodiscard]] std::vector<Listener> listeners_meant(const ForwardRequest& request,
                                                    const std::vector<Listener>& all);

}  // namespace portfwd
