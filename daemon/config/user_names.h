// Names of users in a configuration, resolved to uids. A directory service may not answer, so it is
// queried only before the daemon serves any client. Later only those names are known that it
// resolved then or that /etc/passwd has. Owned by the reader of configurations.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace portfwd {

/// @param passwd a file as passwd(5) describes it
[[nodiscard]] std::optional<uid_t> uid_in_passwd(std::string_view passwd, std::string_view name);

class UserNames {
 public:
  /// @param file with the users of this machine
  explicit UserNames(std::string file = "/etc/passwd") : file_(std::move(file)) {}

  /// Reads the file, then waits for the services of nsswitch.conf(5) unless stop_queries() was
  /// called.
  [[nodiscard]] std::optional<uid_t> find(const std::string& name);
  void stop_queries() { may_query_ = false; }

 private:
  std::string file_;
  bool may_query_ = true;
  std::map<std::string, uid_t> resolved_;  ///< by name; resolved by a service
};

}  // namespace portfwd
