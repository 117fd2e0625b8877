// LRU map of fixed capacity: when it is full, a new entry replaces the one that was put longest
// ago. Its entries, and strings of type std::pmr::string in them, share a memory pool: scattered
// over the heap, each could keep a page from being returned to the kernel.
#pragma once

#include <cassert>
#include <cstddef>
#include <list>
#include <map>
#include <memory_resource>
#include <utility>

namespace portfwd {

template <class Key, class Value>
class LruMap {
 public:
  using Entries = std::pmr::list<std::pair<Key, Value>>;

  /// @param most entries
  explicit LruMap(std::size_t most) : most_(most) { assert(most > 0); }

  /// Null when the key is unknown or was evicted. Does not count as a use.
  [[nodiscard]] const Value* find(const Key& key) const {
    const auto found = index_.find(key);
    return found == index_.end() ? nullptr : &found->second->second;
  }
  /// Stores a value, which counts as a use. @return whether the key had another value before, or
  /// none
  bool put(const Key& key, const Value& value) {
    const Value* before = find(key);
    const bool changed = before == nullptr || *before != value;
    if (before != nullptr) entries_.erase(index_.at(key));
    entries_.emplace_back(key, value);
    index_.insert_or_assign(key, std::prev(entries_.end()));
    if (entries_.size() > most_) {
      index_.erase(entries_.front().first);
      entries_.pop_front();
    }
    assert(entries_.size() == index_.size() && entries_.size() <= most_);
    return changed;
  }
  void clear() {
    index_.clear();
    entries_.clear();
  }
  /// The least recently used entry comes first.
  [[nodiscard]] const Entries& entries() const { return entries_; }

 private:
  std::size_t most_;
  std::pmr::unsynchronized_pool_resource pool_;
  Entries entries_{&pool_};
  std::pmr::map<Key, typename Entries::iterator> index_{&pool_};
};

}  // namespace portfwd
