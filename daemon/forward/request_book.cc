#include "forward/request_book.h"

#include <algorithm>
#include <cassert>

namespace portfwd {

Answer<void> RequestBook::has_room_by_hand() const {
  return check_count(std::ranges::count(requests_, Origin::Manual, &ForwardRequest::origin));
}

ForwardRequest& RequestBook::add(ForwardRequest request) {
  assert(!request.forward_id.empty() && request.origin != Origin::Auto);
  assert(find(request.forward_id) == nullptr);
  ForwardRequest& added = requests_.emplace_back(std::move(request));
  if (added.spec.persist) on_persistent_changed_();
  return added;
}

void RequestBook::remove(std::string_view forward_id) {
  const auto request = std::ranges::find(requests_, forward_id, &ForwardRequest::forward_id);
  if (request == requests_.end()) return;
  const bool persistent = request->spec.persist;
  requests_.erase(request);
  if (persistent) on_persistent_changed_();
}

void RequestBook::remove_of(std::string_view container_id) {
  assert(!container_id.empty());
  const auto is_of_it = [&](const ForwardRequest& r) { return r.container_id == container_id; };
  const bool persistent = std::ranges::any_of(
      requests_, [&](const ForwardRequest& r) { return is_of_it(r) && r.spec.persist; });
  requests_.remove_if(is_of_it);
  if (persistent) on_persistent_changed_();
}

const ForwardRequest* RequestBook::find(std::string_view forward_id) const {
  const auto found = std::ranges::find(requests_, forward_id, &ForwardRequest::forward_id);
  return found == requests_.end() ? nullptr : &*found;
}

ForwardRequest* RequestBook::find(std::string_view forward_id) {
  return const_cast<ForwardRequest*>(std::as_const(*this).find(forward_id));
}

std::vector<const ForwardRequest*> RequestBook::of(std::string_view container_id) const {
  std::vector<const ForwardRequest*> out;
  for (const ForwardRequest& request : requests_) {
    if (request.container_id == container_id) out.push_back(&request);
  }
  return out;
}

std::vector<std::string> RequestBook::of_lifeline(std::string_view bus_name) const {
  std::vector<std::string> out;
  for (const ForwardRequest& request : requests_) {
    if (request.lifeline == bus_name) out.push_back(request.forward_id);
  }
  return out;
}

std::vector<ForwardSpec> RequestBook::persistent() const {
  std::vector<ForwardSpec> out;
  for (const ForwardRequest& request : requests_) {
    if (request.spec.persist) out.push_back(request.spec);
  }
  return out;
}

}  // namespace portfwd
