// See cgroup_folder.h. A folder's count of links tells whether it has folders in it, so those
// without, which are most, are not read: each holds some sixty files. Source: fs/kernfs/dir.c.
#include "kernel/cgroup_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <memory>
#include <string_view>

#include "base/unique_fd.h"

namespace portfwd {
namespace {

constexpr int kDeepest = 16;
constexpr nlink_t kNoneBelow = 2;

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

struct Search {
  std::uint64_t id;
  unsigned left = 4096;  ///< folders that may yet be looked at
};

bool is_below(Search& search, DIR* folder, int depth);

bool is_there(Search& search, int parent, const char* name, int depth) {
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
    if (is_there(search, ::dirfd(folder), entry->d_name, depth)) return true;
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
  return id != 0 && !folder.empty() && is_there(search, AT_FDCWD, folder.c_str(), 0);
}

}  // namespace portfwd
