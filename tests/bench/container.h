// A container for benchmarks: one process in user and network namespaces of its own, which opens
// and closes listeners on request and reports when it did. It dies with the benchmark. Its servers
// greet every client with one byte and keep the connection until the client ends it.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/unique_fd.h"
#include "bench/figures.h"

namespace portfwd::bench {

class Container {
 public:
  Container();
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;
  ~Container() { kill(); }

  /// @return when listen() on 127.0.0.1 returned
  Clock::time_point open(std::uint16_t port);
  /// @return the moment before close()
  Clock::time_point close(std::uint16_t port);
  /// Forks and executes a server, this program with `serve`, as a user does in a shell.
  /// @return when its listen() returned
  Clock::time_point exec_server(std::uint16_t port);
  void end_server();
  void kill();

 private:
  enum class Op : std::uint8_t { Open, Close, Exec, End };
  struct Order {
    Op op;
    std::uint16_t port;
  };
  Clock::time_point tell(Op op, std::uint16_t port);
  Clock::time_point receive();
  [[noreturn]] static void live(UniqueFd orders);
  class Inside;

  UniqueFd orders_;
  pid_t pid_ = -1;
};

/// The server that exec_server() starts: `PROGRAM serve PORT`; its answer goes to descriptor 3.
/// Does not return if this program was called that way.
void serve_if_asked(int argc, char** argv);

/// Puts the calling process into a user and a network namespace of its own, with lo up and reno:
/// then figures of loopback show the CPUs, not the timers by which bbr paces, which is the default
/// of some machines. Ends the program when the machine has no unprivileged user namespaces.
void enter_new_namespaces();

/// Forks a process into namespaces of its own. @return in both processes; 0 in the child
pid_t fork_into_namespaces();

/// Raises the soft limit of descriptors to the hard one, for this process and those that it starts.
void allow_all_descriptors();

}  // namespace portfwd::bench
