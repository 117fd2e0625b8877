// Owns objects that come and go in any order, each in O(1) and for one pointer. An element carries
// its own place as `slot`. It knows nothing of what it holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace portfwd {

template <class T>
class Roster {
 public:
  T& add(std::unique_ptr<T> element) {
    element->slot = static_cast<std::uint32_t>(elements_.size());
    return *elements_.emplace_back(std::move(element));
  }

  /// Hands `element` over; the last one takes its place.
  [[nodiscard]] std::unique_ptr<T> remove(T& element) {
    std::unique_ptr<T> out = std::move(elements_[element.slot]);
    if (element.slot + 1 < elements_.size()) {
      elements_[element.slot] = std::move(elements_.back());
      elements_[element.slot]->slot = element.slot;
    }
    elements_.pop_back();
    return out;
  }

  [[nodiscard]] T& operator[](std::size_t slot) { return *elements_[slot]; }
  [[nodiscard]] T& last() { return *elements_.back(); }
  [[nodiscard]] bool empty() const { return elements_.empty(); }
  [[nodiscard]] std::size_t size() const { return elements_.size(); }
  [[nodiscard]] auto begin() const { return elements_.begin(); }
  [[nodiscard]] auto end() const { return elements_.end(); }

 private:
  std::vector<std::unique_ptr<T>> elements_;
};

}  // namespace portfwd
