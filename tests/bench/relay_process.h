// A relay under comparison: a running program in a process group of its own, and what its processes
// use of the machine. Loads and other relays are not known here.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>
#include <vector>

#include "bench/figures.h"
#include "bench/place.h"

namespace portfwd::bench {

/// Ends with this object, with its whole group.
class RelayProcess final {
 public:
  RelayProcess(std::string name, Place place, pid_t pid)
      : name_(std::move(name)), place_(std::move(place)), pid_(pid) {}
  RelayProcess(const RelayProcess&) = delete;
  RelayProcess& operator=(const RelayProcess&) = delete;
  ~RelayProcess();

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const Place& place() const { return place_; }  ///< where it listens
  [[nodiscard]] std::vector<pid_t> processes() const;          ///< of its group

 private:
  std::string name_;
  Place place_;
  pid_t pid_;
};

/// Forks a child that ends with the caller. @return 0 in the child, which is in a group of its own
[[nodiscard]] pid_t fork_group();
/// Forks like fork_group() and executes a program with standard error discarded.
/// @param listener becomes the first descriptor that systemd would pass, sd_listen_fds(3), which
/// nginx inherits too; -1: there is none
/// @param inside the process whose namespaces it runs in; 0: the caller's
[[nodiscard]] pid_t start_program(const std::string& program, std::vector<std::string> words,
                                  int listener, pid_t inside);
/// Sum over all their threads and the children that they have waited for. Source: proc(5).
[[nodiscard]] Clock::duration cpu_time_of(std::span<const pid_t> processes);

struct Footprint {
  double memory = 0;       ///< KiB; shared memory is counted once
  double descriptors = 0;  ///< NaN where the kernel does not show them
};
[[nodiscard]] Footprint footprint_of(std::span<const pid_t> processes);

/// Joins the user and network namespace of a process. Ends the program when refused.
void enter_namespaces(pid_t pid);

}  // namespace portfwd::bench
