// Where the State is kept: state.json in a folder of its own, mode 0600. It is read once, before
// anybody is served; a FileWriter writes it, so that whoever dies at whatever moment leaves the old
// one or the new one. Owned by main. It knows neither when to write nor what the values mean.
#pragma once

#include <filesystem>

#include "forward/state.h"

namespace portfwd {

class StateFile {
 public:
  static constexpr std::size_t kMostBytes = 8 * 1024 * 1024;  ///< neither written nor read

  explicit StateFile(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// What was saved last; an empty State when there is none. A file that makes no sense is set
  /// aside as state.json.damaged, where it takes the place of an earlier one, and logged.
  [[nodiscard]] State load() const;

  [[nodiscard]] std::filesystem::path path() const { return folder_ / "state.json"; }

 private:
  void set_aside(std::string_view why) const;

  std::filesystem::path folder_;
};

}  // namespace portfwd
