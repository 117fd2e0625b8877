#include "relay/subuids.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/small_file.h"

namespace portfwd {

namespace {

/// Cuts off and returns what comes before `mark`, or all of it.
std::string_view take_until(std::string_view& text, char mark) {
  const auto end = std::min(text.find(mark), text.size());
  const std::string_view head = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return head;
}

std::optional<std::uint32_t> parse_number(std::string_view text) {
  std::uint32_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return value;
}

bool same_file_state(const struct stat& a, const struct stat& b) {
  return a.st_ino == b.st_ino && a.st_dev == b.st_dev && a.st_size == b.st_size &&
         a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

}  // namespace

std::vector<UidRange> parse_subuids(std::string_view text, std::string_view user, uid_t uid) {
  const std::string number = std::to_string(uid);
  std::vector<UidRange> ranges;
  while (!text.empty()) {
    std::string_view line = take_until(text, '\n');
    const std::string_view owner = take_until(line, ':');
    if (owner.empty() || (owner != user && owner != number)) continue;
    const auto first = parse_number(take_until(line, ':'));
    const auto count = parse_number(line);
    if (first && count) ranges.push_back({*first, *count});
  }
  return ranges;
}

bool Subuids::contains(uid_t uid) {
  refresh();
  return std::ranges::any_of(ranges_, [&](const UidRange& range) { return range.contains(uid); });
}

void Subuids::refresh() {
  struct stat now {};
  if (::stat(file_.c_str(), &now) != 0) now = {};
  if (same_file_state(now, seen_)) return;
  ranges_ = parse_subuids(read_small_file(file_.string()).value_or(""), user_, uid_);
  seen_ = now;
}

}  // namespace portfwd
