// Where the State is kept: state.json in a folder of its own, mode 0600. Written beside, synced and
// renamed, so that whoever dies at whatever moment leaves the old one or the new one. Owned by
// main. It knows neither when to write nor what the values mean.
#pragma once

#include <filesystem>

#include "base/error.h"
#include "forward/state.h"

namespace portfwd {

class StateFile {
 public:
  static constexpr std::size_t kMostBytes = 8 * 1024 * 1024;  ///< neither written nor read

  /// @param folder made when it is first written to
  explicit StateFile(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// What was saved last; an empty State when there is none. A file that makes no sense is set
  /// aside as state.json.damaged, where it takes the place of an earlier one, and logged.
  [[nodiscard]] State load() const;
  /// Blocks for as long as fsync(2) does. ENOSPC, EROFS, EACCES, ...
  [[nodiscard]] Result<void> save(const State& state) const;

  [[nodiscard]] std::filesystem::path path() const { return folder_ / "state.json"; }

 private:
  void set_aside(std::string_view why) const;
  [[nodiscard]] Result<void> make_folder() const;

  std::filesystem::path folder_;
};

}  // namespace portfwd
