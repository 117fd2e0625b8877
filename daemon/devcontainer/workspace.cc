#include "devcontainer/workspace.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string_view>

#include "base/unique_fd.h"

namespace portfwd::devcontainer {

namespace {

std::string_view file_name(std::string_view path) {
  return path.substr(path.rfind('/') + 1);
}

bool is_plain_absolute(std::string_view path) {
  return path.starts_with('/') && !(std::string(path) + "/").contains("/../") &&
         !path.contains('\0');
}

std::string label(const std::map<std::string, std::string>& labels, const std::string& key) {
  const auto found = labels.find(key);
  return found == labels.end() || !is_plain_absolute(found->second) ? "" : found->second;
}

}  // namespace

std::vector<std::string> config_paths(const std::map<std::string, std::string>& labels) {
  std::vector<std::string> paths;
  const std::string file = label(labels, "devcontainer.config_file");
  if (file_name(file) == "devcontainer.json" || file_name(file) == ".devcontainer.json") {
    paths.push_back(file);
  }
  const std::string folder = label(labels, "devcontainer.local_folder");
  if (!folder.empty()) {
    paths.push_back(folder + "/.devcontainer/devcontainer.json");
    paths.push_back(folder + "/.devcontainer.json");
  }
  return paths;
}

Result<std::string> read_config(const std::string& path, uid_t owner) {
  // A pipe must not be waited for, nor a link be followed out of the folder.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW));
  if (!fd.valid()) return fail("devcontainer.json");
  struct stat about {};
  if (::fstat(fd.get(), &about) != 0) return fail("devcontainer.json");
  if (!S_ISREG(about.st_mode)) return fail("devcontainer.json", EINVAL);
  if (about.st_uid != owner) return fail("devcontainer.json", EACCES);
  std::string text(kLargestFile + 1, '\0');
  std::size_t size = 0;
  ssize_t got = 0;
  while (size < text.size() &&
         (got = ::read(fd.get(), text.data() + size, text.size() - size)) > 0) {
    size += static_cast<std::size_t>(got);
  }
  if (got < 0) return fail("devcontainer.json");
  if (size > kLargestFile) return fail("devcontainer.json", EFBIG);
  text.resize(size);
  return text;
}

}  // namespace portfwd::devcontainer
