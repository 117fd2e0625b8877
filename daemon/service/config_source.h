// Files of the configuration: reads those that the options name, and notifies when they differ from
// what was read. Owned by main. Keys are not known here.
//
// Editors write a new file and rename it, tools replace links, folders appear later. So folders are
// watched instead of files, or the nearest existing folder above a missing one, and the files are
// compared with those that were read. Source: inotify(7).
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
  /// @param changed called from the loop, 100 ms after the first of several changes, and not for
  /// changes that read() has already seen. A failure of inotify is logged; then `changed` is never
  /// called
  void watch(std::function<void()> changed);

 private:
  /// Differs whenever the contents of the file differ.
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

  void check_files();
  [[nodiscard]] Result<void> watch_folders();

  const Options& options_;
  UserNames users_;
  std::vector<Version> read_;
  std::function<void()> changed_;
  std::map<std::string, int> watches_;  ///< by folder
  Inotify inotify_;
  Timer settled_;
};

}  // namespace portfwd
