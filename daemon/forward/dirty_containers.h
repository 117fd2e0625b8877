// The containers whose forwards are to be reconciled, each once, in the order in which they were
// marked. Owned by the ForwardTable; containers are known by their ids.
#pragma once

#include <deque>
#include <optional>
#include <set>
#include <string>
#include <utility>

namespace portfwd {

class DirtyContainers {
 public:
  /// One that is marked already keeps its place.
  void mark(const std::string& id) {
    if (marked_.insert(id).second) queue_.push_back(id);
  }
  /// Takes the first one out. Precondition: !empty().
  std::string take() {
    std::string id = std::move(queue_.front());
    queue_.pop_front();
    marked_.erase(id);
    return id;
  }
  [[nodiscard]] bool empty() const { return queue_.empty(); }
  [[nodiscard]] std::size_t size() const { return queue_.size(); }
  void clear() {
    queue_.clear();
    marked_.clear();
  }

 private:
  std::deque<std::string> queue_;
  std::set<std::string> marked_;
};

}  // namespace portfwd
