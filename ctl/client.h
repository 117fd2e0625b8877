// The daemon as the client sees it: one bus connection, the generated proxy, answers as JSON. Every
// member throws Failure: Status::NoDaemon when nobody answers, Status::Failed when the daemon
// refuses. It prints nothing.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "ctl/objects.h"
#include "net/endpoint.h"

namespace portfwd::ctl {

struct ForwardRequest {
  std::string container;
  std::string target;
  std::optional<Port> host_port;
  std::string bind;
  std::string container_address;
  std::string label;
  bool reverse = false;
  bool persist = false;
  bool allow_missing = false;
};

class Client {
 public:
  /// Connects to the session bus when it is first asked something.
  /// @param timeout of every call; nothing: D-Bus's own 25 s
  explicit Client(std::optional<std::chrono::microseconds> timeout);
  ~Client();

  [[nodiscard]] std::vector<Object> forwards();    ///< by container, then port
  [[nodiscard]] std::vector<Object> containers();  ///< by name
  /// @return the object; without a value when it has already gone.
  Object forward(const ForwardRequest& request);
  Object attach_pid(unsigned pid, const std::string& name);
  Object attach_netns(const UniqueFd& netns, const std::string& name);
  void unforward(const std::string& path);
  void detach(const std::string& path);
  [[nodiscard]] std::vector<Json> events(std::uint64_t after);
  [[nodiscard]] Json explain(const std::string& container, const std::string& target);
  [[nodiscard]] Json status();
  void reload();

  /// Events after `after`, the past ones and then each as it comes, until the daemon goes: that is
  /// Status::NoDaemon.
  [[noreturn]] void follow(std::uint64_t after, const std::function<void(const Json&)>& on_event);

 private:
  class Connection;
  Connection& daemon();

  std::optional<std::chrono::microseconds> timeout_;
  std::unique_ptr<Connection> connection_;
};

}  // namespace portfwd::ctl
