// The daemon's answers laid out for people. Pure: values in, text out. What a container chose
// itself (its name, the name of a program) is shown without control characters. Nothing depends on
// a fact being there.
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

/// The ending of a fact's key names its unit, as in memory_bytes or poll_cost_usec.
[[nodiscard]] std::string explanation_text(const client::Explanation& explanation, bool colour);
[[nodiscard]] std::string status_text(const client::Status& status, bool colour);
/// A line about a shortage of descriptors; "" when there is none.
[[nodiscard]] std::string shortage_line(const client::Status& status);

/// "7.5 MiB"
[[nodiscard]] std::string bytes_text(double bytes);
/// "44 µs", "20 ms", "1.5 s", "3 h 5 min"
[[nodiscard]] std::string span_text(double seconds);

// The JSON of portfwdctl(1), made of the values of the client library.

using Json = nlohmann::ordered_json;  // keys stay in the order of the contract

[[nodiscard]] Json to_json(const client::Forward& forward);
[[nodiscard]] Json to_json(const client::Container& container);
[[nodiscard]] Json to_json(const client::Event& event);
[[nodiscard]] Json to_json(const client::Facts& facts);

template <class Value>
[[nodiscard]] Json to_json(const std::vector<Value>& values) {
  Json array = Json::array();
  for (const Value& value : values) array.push_back(to_json(value));
  return array;
}

// How a command of portfwdctl fails: an exit status and what to tell the user. Thrown anywhere in
// ctl/, caught once in main. Errors of the client library get their wording and their remedy here.
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
