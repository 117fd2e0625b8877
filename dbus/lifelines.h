// Callers whose forwards end with their bus connection (`while_connected`). Owned by the exports.
// Only names that somebody asked about are watched: a match on all names would wake the daemon for
// every program that leaves the bus.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "dbus/sdbus_compat.h"

namespace portfwd {

class Lifelines {
 public:
  /// @param ended called with a unique name once its owner has left; from a message handler.
  Lifelines(sdbus::IConnection& connection, std::function<void(const std::string&)> ended)
      : connection_(connection), ended_(std::move(ended)) {}
  Lifelines(const Lifelines&) = delete;
  Lifelines& operator=(const Lifelines&) = delete;

  /// Watches `name`; waits for the bus, 0.4 s at most. @return false when its owner has already
  /// gone. Throws sdbus::Error.
  [[nodiscard]] bool watch(const std::string& name);
  /// Lets go of the matches of names that have ended. Not from a message handler.
  void forget_ended();

 private:
  void end(const std::string& name);

  sdbus::IConnection& connection_;
  std::function<void(const std::string&)> ended_;
  std::map<std::string, sdbus::Slot> matches_;
  std::vector<std::string> over_;
};

/// Whether somebody on the bus owns `name`. Blocks for the bus's answer. Throws sdbus::Error.
[[nodiscard]] bool name_has_owner(sdbus::IConnection& connection, const std::string& name);

}  // namespace portfwd
