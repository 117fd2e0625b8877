// See procfs.h. Source of the formats: proc(5), cgroups(7).

#include "kernel/procfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <string_view>

#include "base/unique_fd.h"

namespace portfwd::procfs {

namespace {

template <class T>
std::optional<T> number(std::string_view text, int base = 10) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Removes the text up to `separator`, or all of it, from the front of `rest` and returns it.
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
  const auto close = text.rfind(") ");  // the last one: comm may contain it
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

namespace {

/// The effective id in a line "KEY\treal\teffective\tsaved\tfilesystem".
std::optional<std::uint32_t> effective_id(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    std::string_view line = cut(text, '\n');
    if (!line.starts_with(key)) continue;
    line.remove_prefix(key.size());
    cut(line, '\t');
    return number<std::uint32_t>(cut(line, '\t'));
  }
  return std::nullopt;
}

}  // namespace

std::optional<uid_t> parse_status_uid(std::string_view text) {
  return effective_id(text, "Uid:\t");
}

std::optional<gid_t> parse_status_gid(std::string_view text) {
  return effective_id(text, "Gid:\t");
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
  return inner_id(text, id).has_value();
}

std::optional<std::uint32_t> inner_id(std::string_view text, std::uint32_t id) {
  const auto next = [](std::string_view& line) {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    return number<std::uint32_t>(cut(line, ' '));
  };
  while (!text.empty()) {
    std::string_view line = cut(text, '\n');
    const auto inside = next(line), outside = next(line), count = next(line);
    if (!inside || !outside || !count || id < *outside || id - *outside >= *count) continue;
    return *inside + (id - *outside);
  }
  return std::nullopt;
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

namespace portfwd {

// ---- the folder

// The listing uses getdents64(2) itself, which returns d_ino without a stat(2) for each process.
namespace {

constexpr std::size_t kListBuffer = 32768;

struct PathBuffer {
  std::array<char, 64> text{};
  PathBuffer(pid_t pid, std::string_view file) {
    const auto end = fmt::format_to_n(text.data(), text.size() - 1, "{}/{}", pid, file);
    *end.out = '\0';
  }
  [[nodiscard]] const char* get() const { return text.data(); }
};

std::optional<pid_t> pid_of(const char* name) {
  pid_t pid = 0;
  const char* end = name + std::strlen(name);
  const auto [stop, error] = std::from_chars(name, end, pid);
  if (error != std::errc() || stop != end || pid <= 0) return std::nullopt;
  return pid;
}

/// Calls `each(name, inode)` for every entry of the open folder.
template <class Each>
Result<void> for_each_entry(int dir, Each each) {
  alignas(dirent64) std::array<char, kListBuffer> buffer;
  if (::lseek(dir, 0, SEEK_SET) != 0) return fail("lseek");
  for (;;) {
    const ssize_t got = ::getdents64(dir, buffer.data(), buffer.size());
    if (got < 0) return fail("getdents64");
    if (got == 0) return {};
    for (ssize_t at = 0; at < got;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer.data() + at);  // getdents(2)
      if (!each(entry->d_name, entry->d_ino)) return {};
      at += entry->d_reclen;
    }
  }
}

Result<std::string_view> link_text(int dir, const char* path, std::span<char> buffer) {
  const ssize_t n = ::readlinkat(dir, path, buffer.data(), buffer.size());
  if (n < 0) return fail("readlink");
  return std::string_view(buffer.data(), static_cast<std::size_t>(n));
}

UniqueFd another(const UniqueFd& fd) {
  return UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
}

}  // namespace

ProcDir::ProcDir(std::string path)
    : path_(std::move(path)),
      fd_(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)),
      reserve_(another(fd_)) {}

Result<void> ProcDir::list(std::vector<Entry>& out) const {
  out.clear();
  auto listed = for_each_entry(fd_.get(), [&out](const char* name, std::uint64_t inode) {
    if (const auto pid = pid_of(name)) out.push_back({*pid, inode});
    return true;
  });
  std::ranges::sort(out, {}, &Entry::pid);  // already sorted, except in a test's folder
  return listed;
}

Result<std::uint64_t> ProcDir::netns(pid_t pid) const {
  return namespace_of(pid, "ns/net", "net");
}

Result<std::uint64_t> ProcDir::userns(pid_t pid) const {
  return namespace_of(pid, "ns/user", "user");
}

Result<std::uint64_t> ProcDir::namespace_of(pid_t pid, std::string_view file,
                                            std::string_view kind) const {
  std::array<char, 40> buffer{};
  const auto text = link_text(fd_.get(), PathBuffer(pid, file).get(), buffer);
  if (!text) return std::unexpected(text.error());
  const auto inode = procfs::parse_namespace_link(*text, kind);
  if (!inode) return fail("readlink", EINVAL);
  return *inode;
}

Result<std::uint64_t> ProcDir::net_files(pid_t pid) const {
  struct stat st {};
  if (::fstatat(fd_.get(), PathBuffer(pid, "net/tcp").get(), &st, 0) != 0) return fail("stat");
  return st.st_ino;
}

Result<uid_t> ProcDir::owner(pid_t pid) const {
  struct stat st {};
  if (::fstatat(fd_.get(), PathBuffer(pid, "").get(), &st, 0) != 0) return fail("stat");
  return st.st_uid;
}

Result<Netns> ProcDir::open_netns(pid_t pid) const {
  UniqueFd fd(::openat(fd_.get(), PathBuffer(pid, "ns/net").get(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return fail("open");
  return Netns::adopt(std::move(fd));
}

Result<std::string> ProcDir::read(pid_t pid, const char* file, std::size_t limit) const {
  auto text = read_text(fd_.get(), PathBuffer(pid, file).get(), limit);
  if (text || !is_descriptor_shortage(text.error()) || !reserve_.valid()) return text;
  reserve_.reset();  // there is one thread: nothing else uses the number meanwhile
  text = read_text(fd_.get(), PathBuffer(pid, file).get(), limit);
  reserve_ = another(fd_);
  return text;
}

std::string ProcDir::comm(pid_t pid) const {
  std::string text = read(pid, "comm", 64).value_or("");
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

std::optional<procfs::Stat> ProcDir::stat(pid_t pid) const {
  return procfs::parse_stat(read(pid, "stat", 1024).value_or(""));
}

pid_t ProcDir::parent(pid_t pid) const {
  const auto found = stat(pid);
  return found ? found->ppid : 0;
}

std::map<std::uint64_t, pid_t> ProcDir::socket_owners(std::span<const pid_t> pids,
                                                      std::set<std::uint64_t> inodes,
                                                      std::size_t max_links) const {
  std::map<std::uint64_t, pid_t> owners;
  for (const pid_t pid : pids) {
    const UniqueFd dir(
        ::openat(fd_.get(), PathBuffer(pid, "fd").get(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!dir.valid()) continue;
    const auto match_link = [&](const char* name, std::uint64_t) {
      if (max_links == 0 || inodes.empty()) return false;
      --max_links;
      std::array<char, 40> buffer{};
      const auto text = link_text(dir.get(), name, buffer);
      const auto inode = text ? procfs::parse_socket_link(*text) : std::nullopt;
      if (inode && inodes.erase(*inode) > 0) owners[*inode] = pid;
      return true;
    };
    (void)for_each_entry(dir.get(), match_link);
  }
  return owners;
}

std::string ProcDir::socket_owner(std::span<const pid_t> pids, std::uint64_t inode,
                                  std::size_t max_links) const {
  const auto owners = socket_owners(pids, {inode}, max_links);
  return owners.empty() ? "" : comm(owners.begin()->second);
}

Result<std::string> read_text(int dir, const char* path, std::size_t limit) {
  const UniqueFd fd(::openat(dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) return fail("open");
  std::string text;
  while (text.size() < limit) {
    const std::size_t had = text.size();
    text.resize(std::min(limit, had + ProcDir::kTextLimit));
    const ssize_t n = ::read(fd.get(), text.data() + had, text.size() - had);
    text.resize(had + static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    if (n < 0) return fail("read");
    if (n == 0) break;
  }
  return text;
}

// ---- cgroups

// The link count of a cgroup folder tells whether it has subfolders. Folders without, which are
// most, are not read: each holds some sixty files. Source: fs/kernfs/dir.c.
namespace {

constexpr int kDeepest = 16;
constexpr nlink_t kNoneBelow = 2;

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

struct Search {
  std::uint64_t id;
  unsigned left = 4096;  ///< folders that may still be examined
};

bool is_below(Search& search, DIR* folder, int depth);

bool matches_or_contains(Search& search, int parent, const char* name, int depth) {
  struct stat st {};
  if (search.left == 0) return false;
  --search.left;
  if (::fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return false;
  if (st.st_ino == search.id) return true;
  if (st.st_nlink == kNoneBelow || depth == kDeepest) return false;
  UniqueFd fd(::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return false;
  const std::unique_ptr<DIR, CloseFolder> folder(::fdopendir(fd.get()));
  if (!folder) return false;
  (void)fd.release();  // closedir closes it
  return is_below(search, folder.get(), depth + 1);
}

bool is_below(Search& search, DIR* folder, int depth) {
  while (const dirent* entry = ::readdir(folder)) {
    const std::string_view name = entry->d_name;
    if (entry->d_type != DT_DIR || name == "." || name == "..") continue;
    if (matches_or_contains(search, ::dirfd(folder), entry->d_name, depth)) return true;
  }
  return false;
}

}  // namespace

std::uint64_t cgroup_id_of(const std::string& folder) {
  struct stat st {};
  return ::stat(folder.c_str(), &st) == 0 ? st.st_ino : 0;
}

bool cgroup_holds(const std::string& folder, std::uint64_t id) {
  Search search{id};
  return id != 0 && !folder.empty() && matches_or_contains(search, AT_FDCWD, folder.c_str(), 0);
}
}  // namespace portfwd

namespace portfwd::sysctl {

PortRange ephemeral_ports() {
  std::ifstream in("/proc/sys/net/ipv4/ip_local_port_range");
  unsigned first = 0;
  unsigned last = 0;
  const bool read = static_cast<bool>(in >> first >> last);
  if (!read || first < 1 || last > 65535 || first > last) return {32768, 60999};
  return {static_cast<Port>(first), static_cast<Port>(last)};
}

Port first_unprivileged_port() {
  std::ifstream in("/proc/sys/net/ipv4/ip_unprivileged_port_start");
  unsigned value = 0;
  return in >> value && value <= 65535 ? static_cast<Port>(value) : Port{1024};
}

std::string boot_id() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string id;
  in >> id;
  return id;
}

}  // namespace portfwd::sysctl
