// Arbitrary texts of /proc/PID and of passwd(5): the parsers skip or reject what is malformed, and
// their results keep the guarantees of their types.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "config/user_names.h"
#include "kernel/procfs.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace portfwd::procfs;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto stat = parse_stat(text); stat && stat->comm.size() > size) std::abort();
  (void)parse_status_uid(text);
  (void)parse_last_pid(text);
  const std::string_view name = text.substr(0, text.find(':'));
  if (name.empty() && portfwd::uid_in_passwd(text, name)) std::abort();
  (void)portfwd::uid_in_passwd(text, name);
  (void)parse_netns_link(text);
  (void)parse_socket_link(text);
  for (const auto& path : parse_cgroup(text)) {
    if (path.empty() || path.find('\n') != path.npos) std::abort();
  }
  for (const auto& word : split_strings(text)) {
    if (word.find('\0') != word.npos) std::abort();
  }
  for (const Mount& mount : parse_mountinfo(text)) {
    if (mount.root.empty() || mount.point.empty()) std::abort();
  }
  return 0;
}
