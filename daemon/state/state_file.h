// Where the State is kept: state.json in a folder of its own, mode 0600. It is read once, before
// anybody is served; a FileWriter writes it, so that whoever dies at whatever moment leaves the old
// one or the new one. Owned by main. It knows neither when to write nor what the values mean.
#pragma once

#include <expected>
#include <filesystem>

#include "state/state.h"

namespace portfwd {

class StateFile {
 public:
  static constexpr std::size_t kMostBytes = 8 * 1024 * 1024;  ///< neither written nor read
  static constexpr int kMostBackups = 10;                     ///< of damaged files

  explicit StateFile(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// What was saved last; an empty State when there is none, or when the file was damaged and is
  /// set aside as state.json.damaged, or .damaged.1 to .damaged.9, which is logged. A backup is
  /// never replaced.
  /// @return why there can be a good file that could not be read, which is logged, too. It must not
  /// be written over: whoever mends the cause finds it as it was.
  [[nodiscard]] std::expected<State, std::string> load() const;

  /// What the user can do about an errno of reading or writing it.
  [[nodiscard]] static std::string_view remedy_for(int error);

  [[nodiscard]] std::filesystem::path path() const { return folder_ / "state.json"; }

 private:
  [[nodiscard]] std::expected<State, std::string> set_aside(std::string_view why) const;
  [[nodiscard]] std::unexpected<std::string> leave(const std::string& why,
                                                   std::string_view remedy) const;

  std::filesystem::path folder_;
};

}  // namespace portfwd
