// When each forward without a host port is retried: the one that waited longest comes first, and
// each failure doubles its interval. Owned by the ForwardTable; forwards are known by their ids.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"

namespace portfwd {

class ConflictRetries {
 public:
  static constexpr Duration kFirst = std::chrono::seconds(2);
  static constexpr Duration kLongest = std::chrono::seconds(10);

  /// After a failure: the next retry is kFirst away, after each further one twice as far.
  void add(const std::string& id, TimePoint now) {
    const auto [known, first] = known_.try_emplace(id);
    if (!first) {
      order_.erase({known->second.at, id});
      known->second.interval = std::min(2 * known->second.interval, kLongest);
    }
    schedule(*known, now + known->second.interval);
  }
  /// After an attempt that did not come to its end: the retry is due at once, behind the others.
  void resume(const std::string& id, TimePoint now) {
    const auto [known, first] = known_.try_emplace(id);
    if (!first) order_.erase({known->second.at, id});
    schedule(*known, now);
  }
  /// All are due now.
  void expedite(TimePoint now) {
    order_.clear();
    for (Known::value_type& known : known_) schedule(known, now);
  }
  void remove(std::string_view id) {
    const auto known = known_.find(id);
    if (known == known_.end()) return;
    order_.erase({known->second.at, known->first});
    known_.erase(known);
  }
  [[nodiscard]] bool contains(std::string_view id) const { return known_.contains(id); }
  /// The forward whose retry is due for the longest time.
  [[nodiscard]] std::optional<std::string> due(TimePoint now) const {
    if (order_.empty() || order_.begin()->first > now) return std::nullopt;
    return order_.begin()->second;
  }
  /// When the next retry is due.
  [[nodiscard]] std::optional<TimePoint> next() const {
    return order_.empty() ? std::nullopt : std::optional(order_.begin()->first);
  }

 private:
  struct Retry {
    TimePoint at{};
    Duration interval = kFirst;
  };
  using Known = std::map<std::string, Retry, std::less<>>;

  void schedule(Known::value_type& known, TimePoint at) {
    known.second.at = at;
    order_.emplace(at, known.first);
  }

  Known known_;
  std::set<std::pair<TimePoint, std::string>> order_;
};

}  // namespace portfwd
