#include "base/nearest.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <utility>
#include <vector>

namespace portfwd {
namespace {

/// Levenshtein distance, one row at a time.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string_view nearest(std::string_view typed, std::span<const std::string_view> known) {
  std::string_view best;
  std::size_t limit = std::max<std::size_t>(2, typed.size() / 3) + 1;  // farther is a guess
  for (const std::string_view name : known) {
    assert(!name.empty());
    const bool is_beginning = typed.size() > 1 && name.starts_with(typed);
    const std::size_t distance = is_beginning ? 0 : edit_distance(typed, name);
    if (distance < limit) {
      limit = distance;
      best = name;
    }
  }
  return best;
}

}  // namespace portfwd
