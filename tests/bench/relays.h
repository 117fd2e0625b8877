// The relays that relay_bench compares, each as it is started: portfwd, nothing at all, and what
// Debian packages, if it is installed. Every one leads from a port of the host's 127.0.0.1 to one
// of the container's 127.0.0.1, which they reach by running in the container's namespaces with a
// listener that was made on the host; pasta and portfwd have their own ways.
#pragma once

#include <sys/types.h>

#include <list>
#include <string>

#include "base/unique_fd.h"
#include "bench/figures.h"

namespace portfwd::bench {

struct Target {
  pid_t container;     ///< a process in its namespaces
  std::uint16_t port;  ///< on its 127.0.0.1
  std::string folder;  ///< for configuration files; borrowed by the relay until its end
};

/// A program under way, in a process group of its own; it ends with this object.
class Relay final {
 public:
  Relay(std::string name, std::uint16_t port, pid_t pid)
      : name_(std::move(name)), port_(port), pid_(pid) {}
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;
  ~Relay();

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::uint16_t port() const { return port_; }
  /// CPU time of all processes of its group so far. Source: proc(5), schedstat.
  [[nodiscard]] Clock::duration cpu_time() const;

 private:
  std::string name_;
  std::uint16_t port_;
  pid_t pid_;
};

/// All that are installed, each ready when this returns.
[[nodiscard]] std::list<Relay> start_peers(const Target& target);
/// Joins the user and network namespace of a process. Ends the program when refused.
void enter_namespaces(pid_t pid);
[[nodiscard]] std::uint16_t port_of(const UniqueFd& socket);

}  // namespace portfwd::bench
