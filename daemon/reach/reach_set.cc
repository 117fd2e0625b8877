#include "reach/reach_set.h"

namespace portfwd {

ReachSet::ReachSet(const Parts& parts, const Settings& settings)
    : parts_(parts), pace_(parts.loop, settings.detect) {}

std::vector<Reach*> ReachSet::all() const {
  std::vector<Reach*> out;
  out.reserve(reaches_.size());
  for (const auto& [id, reach] : reaches_) out.push_back(reach.get());
  return out;
}

Reach* ReachSet::find(std::string_view id) const {
  const auto found = reaches_.find(id);
  return found == reaches_.end() ? nullptr : found->second.get();
}

void ReachSet::add_facts(Facts& facts) const {
  const auto usec = [](Duration d) {
    return std::chrono::duration_cast<std::chrono::microseconds>(d).count();
  };
  facts["sock_diag"] = parts_.sock_diag ? "yes" : parts_.sock_diag.error().text();
  facts["poll_cost_usec"] = usec(pace_.mean_cost());
  facts["poll_cpu_usec"] = usec(pace_.total_cost());
  facts["brokers"] = static_cast<std::int64_t>(parts_.brokers.pids().size());
  facts["broker_failures"] = static_cast<std::int64_t>(parts_.brokers.failures());
}

void ReachSet::on_container_added(const Container& container) {
  auto reach = std::make_unique<BrokerReach>(
      BrokerReach::Parts{parts_.loop, pace_, storm_, parts_.relay, parts_.names,
                         parts_.sock_diag.has_value(), *this},
      container, parts_.brokers.enter(container.netns_fd.get()));
  BrokerReach& added = *(reaches_[container.id] = std::move(reach));
  observer_->on_reach_added(added);
}

void ReachSet::on_container_changed(const Container& container) {
  observer_->on_reach_changed(*reaches_.at(container.id));
}

void ReachSet::on_container_removed(const Container& container, RemovalReason reason) {
  const auto found = reaches_.find(container.id);
  observer_->on_reach_removed(*found->second, reason);
  reaches_.erase(found);  // its sockets with it: they pin the namespace
}

void ReachSet::on_sign_of_life(const Container& container) {
  reaches_.at(container.id)->hurry();
}

}  // namespace portfwd
