// Text and JSON output, and the failures of portfwdctl. Pure functions of the values of client/.
// Text that a container controls (its name, the names of its programs) is printed without control
// characters. Every fact is optional.
#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "client/client.h"
#include "client/values.h"

namespace portfwd::ctl {

[[nodiscard]] std::string forwards_table(const std::vector<client::Forward>& forwards, bool colour);
[[nodiscard]] std::string containers_table(const std::vector<client::Container>& containers,
                                           bool colour);
/// One line, newline included.
[[nodiscard]] std::string event_line(const client::Event& event, bool colour);
/// "127.0.0.1:8080 -> web:80"
[[nodiscard]] std::string forward_text(const client::Forward& forward);

/// Lists the facts of an explanation. The suffix of a key is its unit, as in memory_bytes.
[[nodiscard]] std::string explanation_text(const client::Explanation& explanation, bool colour);
/// The remedies of an explanation as alternatives, with the command lines of portfwdctl. The
/// sentence of the daemon if it has a remedy that this program does not know.
[[nodiscard]] std::string remedy_text(const client::Explanation& explanation);
[[nodiscard]] std::string status_text(const client::Status& status, bool colour);
/// A line that reports a shortage of descriptors; "" when there is none.
[[nodiscard]] std::string shortage_line(const client::Status& status);

/// "7.5 MiB"
[[nodiscard]] std::string bytes_text(double bytes);
/// "44 µs", "20 ms", "1.5 s", "3 h 5 min"
[[nodiscard]] std::string span_text(double seconds);

// JSON as in portfwdctl(1).

using Json = nlohmann::ordered_json;  // keeps the documented order of keys

[[nodiscard]] Json to_json(const client::Forward& forward);
[[nodiscard]] Json to_json(const client::Container& container);
[[nodiscard]] Json to_json(const client::Event& event);
[[nodiscard]] Json to_json(const client::Facts& facts);
[[nodiscard]] Json to_json(const client::Explanation& explanation);

template <class Value>
[[nodiscard]] Json to_json(const std::vector<Value>& values) {
  Json array = Json::array();
  for (const Value& value : values) array.push_back(to_json(value));
  return array;
}

// Failures: an exit status and a message. Thrown anywhere in ctl/ and caught in main().
/// Exit status, see portfwdctl(1).
enum class Status { Done = 0, Failed = 1, Usage = 2, NoDaemon = 3 };

/// A word of the command line for a message: printable, on one line, truncated to 64 bytes.
[[nodiscard]] std::string echo(std::string_view word);

class Failure : public std::runtime_error {
 public:
  /// @param text one line per fact
  Failure(Status status, const std::string& text) : std::runtime_error(text), status_(status) {}
  [[nodiscard]] Status status() const { return status_; }

 private:
  Status status_;
};

/// Words an error of the client library and adds a hint.
/// @param command that failed, as in the table of commands
[[nodiscard]] Failure failure_of(const client::Error& error, std::string_view command);
/// The failure of a command whose subscription has lost the daemon.
[[nodiscard]] Failure daemon_lost();

}  // namespace portfwd::ctl
