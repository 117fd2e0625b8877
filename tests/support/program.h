// A program run by a test. The test's loop reads its output, so that it can serve the program at
// the same time. It dies with the test.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "event/event_loop.h"

namespace portfwd::testing_support {

class Program final : private IoHandler {
 public:
  /// @param command the program's path or name, and its arguments
  Program(EventLoop& loop, std::vector<std::string> command)
      : out_(make_pipe()),
        err_(make_pipe()),
        pid_(start(std::move(command))),
        pidfd_(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0))),
        out_source_(loop, out_.read.get(), *this),
        err_source_(loop, err_.read.get(), *this),
        end_source_(loop, pidfd_.get(), *this) {
    out_.write.reset();
    err_.write.reset();
    for (IoSource* source : {&out_source_, &err_source_, &end_source_}) {
      EXPECT_TRUE(source->watch(EPOLLIN));
    }
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  [[nodiscard]] const std::string& out() const { return out_.text; }
  [[nodiscard]] const std::string& err() const { return err_.text; }
  /// Whether it has ended and all its output was read.
  [[nodiscard]] bool ended() const { return pid_ < 0 && out_.closed && err_.closed; }
  /// Its exit status; the negative number of the signal that ended it.
  [[nodiscard]] int status() const { return status_; }
  /// -1 once it has ended.
  [[nodiscard]] pid_t pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }

 private:
  struct Pipe {
    UniqueFd read;
    UniqueFd write;
    std::string text = {};
    bool closed = false;
  };

  static Pipe make_pipe() {
    std::array<int, 2> ends{-1, -1};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0) << std::strerror(errno);
    return {UniqueFd(ends[0]), UniqueFd(ends[1])};
  }

  pid_t start(std::vector<std::string> command) const {
    std::vector<char*> arguments;
    for (std::string& word : command) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::signal(SIGPIPE, SIG_DFL);
    ::dup2(out_.write.get(), STDOUT_FILENO);
    ::dup2(err_.write.get(), STDERR_FILENO);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }

  void on_io(IoSource& source, std::uint32_t) override {
    if (&source == &end_source_) return reap();
    Pipe& pipe = &source == &out_source_ ? out_ : err_;
    std::array<char, 4096> chunk;
    const ssize_t got = ::read(pipe.read.get(), chunk.data(), chunk.size());
    if (got > 0) {
      pipe.text.append(chunk.data(), static_cast<std::size_t>(got));
    } else {
      pipe.closed = true;
      source.disarm();
    }
  }

  void reap() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    pid_ = -1;
    end_source_.disarm();
  }

  Pipe out_;
  Pipe err_;
  pid_t pid_;
  int status_ = 0;
  UniqueFd pidfd_;
  IoSource out_source_;
  IoSource err_source_;
  IoSource end_source_;
};

}  // namespace portfwd::testing_support
