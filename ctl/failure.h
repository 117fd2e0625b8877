// How a command of portfwdctl fails: an exit status and what to tell the person. Thrown anywhere in
// ctl/, caught once in main.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace portfwd::ctl {

/// Exit statuses; part of the contract, see portfwdctl(1).
enum class Status { Done = 0, Failed = 1, Usage = 2, NoDaemon = 3 };

/// What a person typed, as a message repeats it: printable, at most 64 bytes, on one line.
[[nodiscard]] std::string echo(std::string_view word);

class Failure : public std::runtime_error {
 public:
  /// @param text one line a fact, without a newline at the end.
  Failure(Status status, const std::string& text) : std::runtime_error(text), status_(status) {}
  [[nodiscard]] Status status() const { return status_; }

 private:
  Status status_;
};

}  // namespace portfwd::ctl
