// See proc_dir.h. The listing uses getdents64 itself, for d_ino without a stat per process.
#include "kernel/proc_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>

#include "base/descriptors.h"
#include "kernel/procfs.h"

namespace portfwd {
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
  std::ranges::sort(out, {}, &Entry::pid);  // as they come, unless the folder is a test's
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
  reserve_.reset();  // nobody else takes it meanwhile: there is one thread
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
    const auto look = [&](const char* name, std::uint64_t) {
      if (max_links == 0 || inodes.empty()) return false;
      --max_links;
      std::array<char, 40> buffer{};
      const auto text = link_text(dir.get(), name, buffer);
      const auto inode = text ? procfs::parse_socket_link(*text) : std::nullopt;
      if (inode && inodes.erase(*inode) > 0) owners[*inode] = pid;
      return true;
    };
    (void)for_each_entry(dir.get(), look);
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

}  // namespace portfwd
