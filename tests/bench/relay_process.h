// A relay under comparison: a program under way, in a process group of its own, and what its
// processes use of the machine. It knows no load and no other relay.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>
#include <vector>

#include "bench/figures.h"
#include "bench/place.h"

namespace portfwd::bench {

/// Ends with this object, with all of its group.
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

/// Ends with the caller. @return 0 in the child, which is in a group of its own
[[nodiscard]] pid_t fork_group();
/// Forks so and executes, standard error silenced.
/// @param listener becomes the first descriptor that systemd would pass, sd_listen_fds(3), which
/// nginx inherits too; -1: nothing is there to be read or written
/// @param inside whose namespaces to run in; 0: the caller's
[[nodiscard]] pid_t start_program(const std::string& program, std::vector<std::string> words,
                                  int listener, pid_t inside);
/// Of all their threads and of the children that they have waited for. Source: proc(5).
[[nodiscard]] Clock::duration cpu_time_of(std::span<const pid_t> processes);

struct Footprint {
  double memory = 0;       ///< KiB; what several share is counted once
  double descriptors = 0;  ///< NaN where the kernel does not show them
};
[[nodiscard]] Footprint footprint_of(std::span<const pid_t> processes);

/// Joins the user and network namespace of a process. Ends the program when refused.
void enter_namespaces(pid_t pid);

}  // namespace portfwd::bench
