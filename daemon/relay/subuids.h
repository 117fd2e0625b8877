// The subordinate user ids of one user, from /etc/subuid: inside rootless containers they are
// other users, on the host they are this user's. Owned by ClientIdentity. It knows no sockets.
// Source: subuid(5).
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace portfwd {

struct UidRange {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  [[nodiscard]] bool contains(uid_t uid) const { return uid >= first && uid - first < count; }
  friend bool operator==(const UidRange&, const UidRange&) = default;
};

/// The ranges of the lines that name `user` or `uid`. A line that is not NAME:FIRST:COUNT counts
/// for nothing.
[[nodiscard]] std::vector<UidRange> parse_subuids(std::string_view text, std::string_view user,
                                                  uid_t uid);

/// Reads the file when it is first asked, and again when it has changed.
class Subuids {
 public:
  /// @param user login name, may be empty when it cannot be known
  Subuids(std::filesystem::path file, std::string user, uid_t uid)
      : file_(std::move(file)), user_(std::move(user)), uid_(uid) {}
  /// A file that cannot be read holds no ranges.
  [[nodiscard]] bool contains(uid_t uid);

 private:
  void refresh();

  std::filesystem::path file_;
  std::string user_;
  uid_t uid_;
  struct stat seen_ {};  ///< of the file when it was read; all zero before
  std::vector<UidRange> ranges_;
};

}  // namespace portfwd
