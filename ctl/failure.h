// How a command of portfwdctl fails: an exit status and what to tell the user. Thrown anywhere in
// ctl/, caught once in main. Errors of the client library get their wording and their remedy here.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "client/client.h"

namespace portfwd::ctl {

/// Exit statuses; part of the contract, see portfwdctl(1).
enum class Status { Done = 0, Failed = 1, Usage = 2, NoDaemon = 3 };

/// A word of the command line as a message repeats it: printable, at most 64 bytes, on one line.
[[nodiscard]] std::string echo(std::string_view word);

class Failure : public std::runtime_error {
 public:
  /// @param text one line a fact, without a newline at the end
  Failure(Status status, const std::string& text) : std::runtime_error(text), status_(status) {}
  [[nodiscard]] Status status() const { return status_; }

 private:
  Status status_;
};

[[nodiscard]] Failure failure_of(const client::Error& error);
/// The daemon has ended while its events were followed.
[[nodiscard]] Failure daemon_lost();

}  // namespace portfwd::ctl
