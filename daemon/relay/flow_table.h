// Which flow a datagram belongs to, and which flow goes next: found by the client's address, kept
// in the order of their last use, one order for each idle limit, so that whatever is asked takes
// the same time with one flow as with thousands. Owned by a DatagramPort. It knows no sockets: a
// Flow is anything that has `key`, `used`, `brief()` and `place`.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "base/clock.h"
#include "base/endpoint.h"

namespace portfwd {

/// Two clients are one if nobody can tell them apart.
struct FlowKey {
  Endpoint client;
  std::optional<IpAddress> at;  ///< the address of ours that it talks to, where there are several
  friend bool operator==(const FlowKey&, const FlowKey&) = default;
};

struct FlowKeyHash {
  std::size_t operator()(const FlowKey& key) const {
    const IpAddress& address = key.client.address;
    const auto* const bytes = reinterpret_cast<const char*>(address.data());
    const std::size_t hash = std::hash<std::string_view>{}({bytes, address.size()});
    return hash ^ (std::size_t{key.client.port} * 0x9e3779b97f4a7c15U);
  }
};

template <class Flow>
class FlowTable {
 public:
  /// Where a flow is kept; the table's own.
  struct Place {
    bool in_brief = false;
    typename std::list<std::unique_ptr<Flow>>::iterator at;
  };

  static constexpr Duration kIdle = std::chrono::seconds(90);
  /// Of a flow that was a question and its answer, one datagram each, as DNS has it.
  static constexpr Duration kBriefIdle = std::chrono::seconds(10);

  [[nodiscard]] Flow* find(const FlowKey& key) const {
    const auto found = by_key_.find(key);
    return found == by_key_.end() ? nullptr : found->second;
  }
  Flow& add(std::unique_ptr<Flow> flow, TimePoint now) {
    Flow& added = *flow;
    by_key_.emplace(added.key, &added);
    added.used = now;
    added.place.in_brief = false;
    added.place.at = lasting_.insert(lasting_.end(), std::move(flow));
    return added;
  }
  [[nodiscard]] std::unique_ptr<Flow> remove(Flow& flow) {
    by_key_.erase(flow.key);
    std::unique_ptr<Flow> out = std::move(*flow.place.at);
    list_of(flow).erase(flow.place.at);
    return out;
  }
  /// It carried something just now.
  void touch(Flow& flow, TimePoint now) {
    flow.used = now;
    auto& from = list_of(flow);
    flow.place.in_brief = flow.brief();
    auto& to = list_of(flow);
    to.splice(to.end(), from, flow.place.at);
  }

  /// When the next one will have been idle for too long; nothing while there is none.
  [[nodiscard]] std::optional<TimePoint> next_expiry() const {
    std::optional<TimePoint> next;
    if (!lasting_.empty()) next = lasting_.front()->used + kIdle;
    if (brief_.empty()) return next;
    const TimePoint brief = brief_.front()->used + kBriefIdle;
    return next ? std::min(*next, brief) : brief;
  }
  /// One that has been idle for too long, or null.
  [[nodiscard]] Flow* expired(TimePoint now) const {
    if (!brief_.empty() && brief_.front()->used + kBriefIdle <= now) return brief_.front().get();
    if (!lasting_.empty() && lasting_.front()->used + kIdle <= now) return lasting_.front().get();
    return nullptr;
  }

  /// The one to give up for another: of the client address that has the most, the one that was used
  /// longest ago, questions that were answered before the others. Time is linear; to be asked only
  /// when the table is full. There must be one.
  [[nodiscard]] Flow& to_evict() const {
    std::map<IpAddress, std::size_t> counts;
    std::size_t most = 0;
    for (const auto& [key, flow] : by_key_) most = std::max(most, ++counts[key.client.address]);
    const auto of_most = [&](const std::unique_ptr<Flow>& flow) {
      return counts.at(flow->key.client.address) == most;
    };
    const auto answered = std::ranges::find_if(brief_, of_most);
    if (answered != brief_.end()) return **answered;
    return **std::ranges::find_if(lasting_, of_most);
  }

  [[nodiscard]] std::size_t size() const { return by_key_.size(); }
  [[nodiscard]] bool empty() const { return by_key_.empty(); }
  [[nodiscard]] Flow& any() const { return *by_key_.begin()->second; }

 private:
  [[nodiscard]] std::list<std::unique_ptr<Flow>>& list_of(const Flow& flow) {
    return flow.place.in_brief ? brief_ : lasting_;
  }

  std::unordered_map<FlowKey, Flow*, FlowKeyHash> by_key_;
  std::list<std::unique_ptr<Flow>> lasting_;  ///< the one used longest ago first, as the next
  std::list<std::unique_ptr<Flow>> brief_;
};

}  // namespace portfwd
