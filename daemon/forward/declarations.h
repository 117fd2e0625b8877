// The forwards that are declared: by the user's configuration, and by the metadata of containers.
// Owned by the ForwardTable, which makes a request for each.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "config/settings.h"
#include "forward/container_wishes.h"

namespace portfwd {

class Declarations {
 public:
  /// @param settings borrowed
  Declarations(const Settings& settings, const Clock& clock)
      : settings_(settings), wishes_(clock) {}

  [[nodiscard]] ContainerWishes& wishes() { return wishes_; }
  [[nodiscard]] const ContainerWishes& wishes() const { return wishes_; }

  /// The user's own but for those that an engine serves already, and what containers ask for
  /// besides.
  [[nodiscard]] std::vector<DeclaredForward> all() const;
  /// Notes whether the container's engine leads to what the settings declare, at the host port that
  /// they name, if any. It is going to need that host port for the next container of this name,
  /// too.
  /// @return whether all() changed
  bool note_published(const Container& container);

 private:
  const Settings& settings_;
  ContainerWishes wishes_;
  /// What the settings declare and an engine publishes, by the container's name, until a container
  /// of that name is seen without.
  std::set<std::pair<std::string, Target>> published_;
};

}  // namespace portfwd
