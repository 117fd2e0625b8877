// Client library for the daemon's D-Bus API: calls that return values. Signals are received by a
// Subscription. For every program that talks to the daemon, so it prints nothing and names no
// command line. A Client must be used by one thread. Calls block until the answer or their timeout,
// and throw Error.
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

/// A failed call. The text is that of the bus or of the daemon; a program that shows it adds its
/// own hint.
class Error : public std::runtime_error {
 public:
  enum class Kind {
    NoBus,     ///< no connection to the session bus
    NoAnswer,  ///< the daemon does not run, cannot be started, or timed out
    Refused,   ///< the daemon rejected the request
    NotUtf8,   ///< an argument, which is the text of the error, cannot be sent over a bus
  };
  /// @param name of the D-Bus error, such as "org.portfwd1.Error.PortInUse"; empty for an error of
  /// this library
  Error(Kind kind, const std::string& text, std::string name = {})
      : std::runtime_error(text), kind_(kind), name_(std::move(name)) {}
  [[nodiscard]] Kind kind() const { return kind_; }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  Kind kind_;
  std::string name_;
};

/// The arguments and options of Manager.Forward. Empty and false options are not sent.
struct ForwardRequest {
  std::string container;
  std::string target;
  std::optional<Port> host_port = {};
  std::string host = {};  ///< "unix:/PATH" on the host
  std::optional<std::uint32_t> mode = {};
  std::string owner = {};
  std::optional<std::uint32_t> peer_uid = {};
  bool create_parents = false;
  bool pass_fds = false;
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
  /// @param timeout of each call; none: the default of D-Bus, 25 s
  explicit Client(Timeout timeout = {});
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  [[nodiscard]] std::vector<Forward> forwards();      ///< sorted by container name, then port
  [[nodiscard]] std::vector<Container> containers();  ///< sorted by name
  /// Current counters of all forwards by path, for a client that refreshes them.
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
