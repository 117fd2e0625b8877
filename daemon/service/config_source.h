// Where the configuration comes from: reads the files that the options name, and tells when they
// are no longer what was read. Owned by main. It knows no key.
//
// Editors write beside and rename, tools replace links, folders appear later: so folders are
// watched and not files, the nearest that exists where one is missing, and what counts in the end
// is whether the files are others than those that were read. Source: inotify(7).
#pragma once

#include <sys/types.h>

#include <ctime>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "event/event_loop.h"
#include "kernel/inotify.h"
#include "service/options.h"

namespace portfwd {

class ConfigSource final {
 public:
  /// @param options borrowed
  ConfigSource(EventLoop& loop, const Options& options);

  [[nodiscard]] std::expected<Settings, Mistakes> read();
  /// @param changed called from the loop, a moment after the last of several changes at once; not
  /// for what read() has seen. Where inotify fails, that is logged and nothing is ever told.
  void watch(std::function<void()> changed);

 private:
  /// What tells one content of a file from another.
  struct Version {
    std::string path;
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = 0;
    std::int64_t modified_ns = 0;
    friend bool operator==(const Version&, const Version&) = default;
  };
  [[nodiscard]] std::vector<Version> versions() const;
  [[nodiscard]] std::set<std::string> folders() const;

  void look();
  [[nodiscard]] Result<void> follow_folders();

  const Options& options_;
  UserNames users_;
  std::vector<Version> read_;
  std::function<void()> changed_;
  std::map<std::string, int> watches_;  ///< by folder
  Inotify inotify_;
  Timer settled_;
};

}  // namespace portfwd
