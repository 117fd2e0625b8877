// Names the program behind a listener: one of the processes of its namespace has the socket open.
// Owned by main; asked once for each new listener.
#pragma once

#include <cstdint>
#include <string>

#include "discover/discovery.h"
#include "kernel/proc_dir.h"

namespace portfwd {

class ProcessNames {
 public:
  /// @return the name (comm) of a process in `netns` that holds the socket; "" when none is found
  [[nodiscard]] virtual std::string holder_of_socket(std::uint64_t netns, std::uint32_t inode) = 0;

 protected:
  ~ProcessNames() = default;
};

class FoundProcessNames final : public ProcessNames {
 public:
  /// Both are borrowed.
  FoundProcessNames(const Discovery& discovery, const ProcDir& proc)
      : discovery_(discovery), proc_(proc) {}

  [[nodiscard]] std::string holder_of_socket(std::uint64_t netns, std::uint32_t inode) override {
    return proc_.socket_owner(discovery_.processes_in(netns), inode);
  }

 private:
  const Discovery& discovery_;
  const ProcDir& proc_;
};

}  // namespace portfwd
