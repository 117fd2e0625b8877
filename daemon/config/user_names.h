// Who the users are that a configuration names. A directory service may not answer, so it is asked
// only before anybody is served; later a name counts that it told then, or that /etc/passwd has.
// Owned by whoever reads configurations.
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
  /// @param file of the users of this machine
  explicit UserNames(std::string file = "/etc/passwd") : file_(std::move(file)) {}

  /// Waits for what nsswitch.conf(5) names, as long as it may be asked.
  [[nodiscard]] std::optional<uid_t> find(const std::string& name);
  void stop_asking() { asks_ = false; }

 private:
  std::string file_;
  bool asks_ = true;
  std::map<std::string, uid_t> told_;  ///< by a service
};

}  // namespace portfwd
