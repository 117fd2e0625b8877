#include "config/user_names.h"

#include <pwd.h>

#include <array>
#include <charconv>

#include "base/small_file.h"

namespace portfwd {

namespace {

std::optional<uid_t> query_services(const std::string& name) {
  std::array<char, 16384> memory;
  passwd entry{};
  passwd* found = nullptr;
  const int error = ::getpwnam_r(name.c_str(), &entry, memory.data(), memory.size(), &found);
  return error == 0 && found != nullptr ? std::optional(entry.pw_uid) : std::nullopt;
}

/// Removes and returns the text before `mark`, or all of it.
std::string_view take_until(std::string_view& text, char mark) {
  const auto end = std::min(text.find(mark), text.size());
  const std::string_view head = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return head;
}

}  // namespace

std::optional<uid_t> uid_in_passwd(std::string_view passwd, std::string_view name) {
  while (!passwd.empty() && !name.empty()) {
    std::string_view line = take_until(passwd, '\n');
    if (take_until(line, ':') != name) continue;
    take_until(line, ':');  // the password
    const std::string_view number = take_until(line, ':');
    uid_t uid = 0;
    const char* const end = number.data() + number.size();
    const auto [stop, error] = std::from_chars(number.data(), end, uid);
    if (error == std::errc{} && stop == end) return uid;
  }
  return std::nullopt;
}

std::optional<uid_t> UserNames::find(const std::string& name) {
  if (const auto uid = uid_in_passwd(read_small_file(file_).value_or(""), name)) return uid;
  if (may_query_) {
    if (const auto uid = query_services(name)) resolved_[name] = *uid;
  }
  const auto told = resolved_.find(name);
  return told == resolved_.end() ? std::nullopt : std::optional(told->second);
}

}  // namespace portfwd
