// Names the programs behind listeners: some process of their namespace has the socket open. Owned
// by main; asked once for each new listener, for all that one look showed together.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "discover/discovery.h"
#include "discover/names.h"
#include "kernel/proc_dir.h"

namespace portfwd {

class ProcessNames {
 public:
  /// @return the name (comm) of a process in `netns` that holds the socket, fit to be shown, by the
  /// socket's inode; those of which none is found are left out
  [[nodiscard]] virtual std::map<std::uint64_t, std::string> holders_of_sockets(
      std::uint64_t netns, std::set<std::uint64_t> inodes) = 0;

 protected:
  ~ProcessNames() = default;
};

class FoundProcessNames final : public ProcessNames {
 public:
  /// Both are borrowed.
  FoundProcessNames(const Discovery& discovery, const ProcDir& proc)
      : discovery_(discovery), proc_(proc) {}

  [[nodiscard]] std::map<std::uint64_t, std::string> holders_of_sockets(
      std::uint64_t netns, std::set<std::uint64_t> inodes) override {
    auto found = proc_.socket_owners(discovery_.processes_in(netns), std::move(inodes));
    for (auto& [inode, name] : found) name = names::printable(name);
    return found;
  }

 private:
  const Discovery& discovery_;
  const ProcDir& proc_;
};

}  // namespace portfwd
