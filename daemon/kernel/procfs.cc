// See procfs.h. Source of the formats: proc(5), cgroups(7).
#include "kernel/procfs.h"

#include <algorithm>
#include <charconv>

namespace portfwd::procfs {
namespace {

template <class T>
std::optional<T> number(std::string_view text, int base = 10) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Cuts the text up to `separator`, or all of it, off the front of `rest`.
std::string_view cut(std::string_view& rest, char separator) {
  const auto at = rest.find(separator);
  const std::string_view head = rest.substr(0, at);
  rest = at == rest.npos ? std::string_view() : rest.substr(at + 1);
  return head;
}

std::optional<std::uint64_t> bracketed(std::string_view text, std::string_view prefix) {
  if (!text.starts_with(prefix) || !text.ends_with(']')) return std::nullopt;
  text.remove_prefix(prefix.size());
  text.remove_suffix(1);
  return number<std::uint64_t>(text);
}

/// mountinfo writes blank, tab, newline and backslash as \ooo; fs/proc_namespace.c.
std::string unescape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto code = text[i] == '\\' && i + 3 < text.size()
                          ? number<unsigned char>(text.substr(i + 1, 3), 8)
                          : std::nullopt;
    out.push_back(code ? static_cast<char>(*code) : text[i]);
    if (code) i += 3;
  }
  return out;
}

}  // namespace

std::optional<Stat> parse_stat(std::string_view text) {
  const auto open = text.find(" (");
  const auto close = text.rfind(") ");  // the last one: comm may hold any of it
  if (open == text.npos || close == text.npos || close < open + 2) return std::nullopt;
  std::string_view rest = text.substr(close + 2);
  const std::string_view state = cut(rest, ' ');
  const auto pid = number<pid_t>(text.substr(0, open));
  const auto ppid = number<pid_t>(cut(rest, ' '));
  if (!pid || !ppid || state.size() != 1) return std::nullopt;
  for (int field = 5; field < 22; ++field) cut(rest, ' ');
  const auto started = number<std::uint64_t>(cut(rest, ' ')).value_or(0);
  return Stat{*pid, std::string(text.substr(open + 2, close - open - 2)), state[0], *ppid, started};
}

std::optional<uid_t> parse_status_uid(std::string_view text) {
  while (!text.empty()) {
    std::string_view line = cut(text, '\n');
    if (!line.starts_with("Uid:\t")) continue;
    line.remove_prefix(5);
    cut(line, '\t');
    return number<uid_t>(cut(line, '\t'));
  }
  return std::nullopt;
}

std::uint64_t mapped_ids(std::string_view text) {
  std::uint64_t ids = 0;
  while (!text.empty()) {
    std::string_view line = cut(text, '\n');
    line.remove_prefix(std::min(line.find_last_of(' ') + 1, line.size()));
    const auto count = number<std::uint32_t>(line);
    if (!count) return 0;
    ids += *count;
  }
  return ids;
}

bool maps_id(std::string_view text, std::uint32_t id) {
  const auto next = [](std::string_view& line) {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    return number<std::uint32_t>(cut(line, ' '));
  };
  while (!text.empty()) {
    std::string_view line = cut(text, '\n');
    (void)next(line);
    const auto outside = next(line), count = next(line);
    if (outside && count && id >= *outside && id - *outside < *count) return true;
  }
  return false;
}

std::optional<pid_t> parse_last_pid(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  const auto at = text.rfind(' ');
  if (at == text.npos) return std::nullopt;
  return number<pid_t>(text.substr(at + 1));
}

std::vector<std::string> parse_cgroup(std::string_view text) {
  std::vector<std::string> paths;
  while (!text.empty()) {
    std::string_view line = cut(text, '\n');
    const bool unified = line.starts_with("0::");
    cut(line, ':');
    cut(line, ':');
    if (line.empty()) continue;
    paths.emplace(unified ? paths.begin() : paths.end(), line);
  }
  return paths;
}

std::optional<std::string> parse_unified_cgroup(std::string_view text) {
  while (!text.empty()) {
    std::string_view line = cut(text, '\n');
    if (!line.starts_with("0::/")) continue;
    line.remove_prefix(3);
    if (line.starts_with("/..")) return std::nullopt;
    return std::string(line);
  }
  return std::nullopt;
}

std::vector<std::string> split_strings(std::string_view text) {
  std::vector<std::string> strings;
  while (!text.empty()) strings.emplace_back(cut(text, '\0'));
  return strings;
}

std::optional<std::uint64_t> parse_netns_link(std::string_view text) {
  return parse_namespace_link(text, "net");
}

std::optional<std::uint64_t> parse_namespace_link(std::string_view text, std::string_view kind) {
  if (!text.starts_with(kind)) return std::nullopt;
  return bracketed(text.substr(kind.size()), ":[");
}

std::optional<std::uint64_t> parse_socket_link(std::string_view text) {
  return bracketed(text, "socket:[");
}

std::optional<Mount> parse_mount(std::string_view line) {
  for (int field = 0; field < 3; ++field) cut(line, ' ');  // mount id, parent id, device
  Mount mount;
  mount.root = unescape(cut(line, ' '));
  mount.point = unescape(cut(line, ' '));
  const auto dash = line.find(" - ");  // options and any number of optional fields before it
  if (dash == line.npos || mount.root.empty() || mount.point.empty()) return std::nullopt;
  line.remove_prefix(dash + 3);
  mount.type = cut(line, ' ');
  return mount;
}

std::vector<Mount> parse_mountinfo(std::string_view text) {
  std::vector<Mount> mounts;
  while (!text.empty()) {
    if (auto mount = parse_mount(cut(text, '\n'))) mounts.push_back(std::move(*mount));
  }
  return mounts;
}

}  // namespace portfwd::procfs
