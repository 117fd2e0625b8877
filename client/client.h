// The daemon as a D-Bus client sees it: calls that return values, and subscriptions to its signals.
// Shared by every program that talks to the daemon; it prints nothing and names no program's
// command line. One thread uses one Client. Calls block until the answer or their timeout, and
// throw Error.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "client/values.h"

namespace portfwd::client {

/// How a call fails. The text is the bus's or the daemon's own; the program that shows it adds a
/// remedy.
class Error : public std::runtime_error {
 public:
  enum class Kind {
    NoBus,     ///< no connection to the session bus
    NoAnswer,  ///< no daemon runs, it cannot be started, or it does not answer in time
    Refused,   ///< the daemon rejected the request
    NotUtf8,   ///< an argument (the text of the error) cannot be sent over a bus
  };
  /// @param name of the D-Bus error, such as "org.portfwd1.Error.PortInUse"; empty: not from the
  /// bus
  Error(Kind kind, const std::string& text, std::string name = {})
      : std::runtime_error(text), kind_(kind), name_(std::move(name)) {}
  [[nodiscard]] Kind kind() const { return kind_; }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  Kind kind_;
  std::string name_;
};

/// A manual forward, as Manager.Forward takes it; what is empty or false is not sent.
struct ForwardRequest {
  std::string container;
  std::string target;
  std::optional<Port> host_port = {};
  std::string bind = {};
  std::string container_address = {};
  std::string label = {};
  bool reverse = false;
  bool persist = false;
  bool allow_missing = false;
};

class Connection;

class Client {
 public:
  using Timeout = std::optional<std::chrono::microseconds>;

  /// Connects to the session bus on the first call.
  /// @param timeout of each call; none: that of D-Bus, 25 s
  explicit Client(Timeout timeout = {});
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  [[nodiscard]] std::vector<Forward> forwards();      ///< by container name, then port
  [[nodiscard]] std::vector<Container> containers();  ///< by name
  /// As of now, of all forwards, by path: for who shows them again and again.
  [[nodiscard]] std::map<std::string, Counters> counters();

  /// @return the new forward; none when it has already ended
  std::optional<Forward> add_forward(const ForwardRequest& request);
  void remove_forward(const std::string& path);

  /// @return the new container; none when it has already ended
  std::optional<Container> attach_pid(unsigned pid, const std::string& name);
  std::optional<Container> attach_netns(const UniqueFd& netns, const std::string& name);
  void detach(const std::string& path);

  [[nodiscard]] std::vector<Event> events_after(std::uint64_t seq);
  [[nodiscard]] Explanation explain(const std::string& container, const std::string& target);
  [[nodiscard]] Status status();
  void reload();

 private:
  friend class Subscription;
  Connection& connection();

  Timeout timeout_;
  std::unique_ptr<Connection> connection_;
  bool subscribed_ = false;
};

}  // namespace portfwd::client
