// A container for benchmarks: one process in user and network namespaces of its own, which opens
// and closes listeners when told and says when it did. It dies with the benchmark. Its servers
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

  /// @return when listen() on 127.0.0.1 had returned
  Clock::time_point open(std::uint16_t port);
  /// @return just before close()
  Clock::time_point close(std::uint16_t port);
  /// Forks and executes a server, this program with `serve`: what a person does at a shell.
  /// @return when its listen() had returned
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

/// The server that exec_server() starts: `PROGRAM serve PORT`, the answer goes to descriptor 3.
/// Never returns if that is how this program was called.
void serve_if_asked(int argc, char** argv);

/// The calling process enters a user and a network namespace of its own, lo up, with reno: figures
/// of loopback are of its CPUs then, not of the timers by which bbr paces, which some machines have
/// as default. Ends the program when the machine has no unprivileged user namespaces.
void enter_new_namespaces();

/// A new process in its own namespaces. @return in both; 0 in the child
pid_t fork_into_namespaces();

/// As many as the hard limit allows, from now on and for what is started.
void allow_all_descriptors();

}  // namespace portfwd::bench
