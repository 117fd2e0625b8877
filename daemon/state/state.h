// What must outlive the daemon, as plain values, and its text: JSON with a version. The forward
// table is the owner of what is true; a State is a copy of it, made to be written and read once at
// start. It knows no files.
#pragma once

#include <expected>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/settings.h"
#include "discover/process_facts.h"
#include "net/target.h"

namespace portfwd {

/// The host port that a container's port had last.
struct StickyPort {
  std::string container;  ///< one of its lasting_names(), since its id does not outlive it
  Target target;
  Port host_port = 0;
  friend bool operator==(const StickyPort&, const StickyPort&) = default;
};

/// The loopback address that is a container's own.
struct ContainerAddress {
  std::string container;
  IpAddress address;
  friend bool operator==(const ContainerAddress&, const ContainerAddress&) = default;
};

/// Of ports and addresses, the one that was used longest ago comes first.
struct State {
  std::vector<StickyPort> ports;
  std::vector<ContainerAddress> addresses;
  std::vector<ForwardSpec> forwards;  ///< those with `persist`
  std::vector<OptOut> opt_outs;
  friend bool operator==(const State&, const State&) = default;
};

/// One line for each entry. Bytes in a name that are no UTF-8 become U+FFFD.
/// @param most bytes. What does not fit is left out: host ports that were used longest ago first,
/// then addresses, then forwards.
[[nodiscard]] std::string to_text(const State& state,
                                  std::size_t most = std::numeric_limits<std::size_t>::max());
/// Why a text is not one that to_text() made.
struct UnusableState {
  std::string text;    ///< the cause: cut off, edited, or of another version
  bool newer = false;  ///< a later portfwd has made it, to which it is not damaged
};
[[nodiscard]] std::expected<State, UnusableState> parse_state(std::string_view text);

// Where the State is kept: state.json in a folder of its own, mode 0600. It is read once, before
// anybody is served; a FileWriter writes it, so that whoever dies at whatever moment leaves the old
// one or the new one. Owned by main. It knows neither when to write nor what the values mean.
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
