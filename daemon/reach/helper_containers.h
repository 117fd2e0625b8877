// Brokers that an engine starts: for containers of root which this user can't enter himself, but
// whose engine obeys him (the group docker). Owned by main. It keeps no helper alive: their clients
// do, and the helper ends with its socket.
#pragma once

#include <list>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "broker/client/broker_launcher.h"
#include "discover/container.h"
#include "reach/helper_start.h"

namespace portfwd {

class HelperContainers;

/// Starts the helpers of one container, one at a time.
class HelperLauncher final : public BrokerLauncher {
 public:
  /// @param engines sockets, best first; not empty
  HelperLauncher(HelperContainers& owner, std::vector<std::string> engines,
                 std::string container_id)
      : owner_(owner), engines_(std::move(engines)), container_id_(std::move(container_id)) {}

  /// The socket is there at once; what is sent waits until the helper has come.
  [[nodiscard]] Result<BrokerProcess> launch() override;
  void discard(BrokerProcess) override { running_.reset(); }
  [[nodiscard]] Duration patience() const override { return std::chrono::seconds(20); }
  /// Why the last one did not come, as a sentence's end; "" when it is not known.
  [[nodiscard]] const std::string& failure() const { return failure_; }

 private:
  HelperContainers& owner_;
  std::vector<std::string> engines_;
  std::string container_id_;
  std::string failure_;
  std::unique_ptr<HelperStart> running_;
};

class HelperContainers {
 public:
  struct Parts {
    EventLoop& loop;
    HttpClient& http;
    std::string folder;               ///< for sockets; made when needed
    std::string program;              ///< path of portfwd-broker
    std::vector<std::string> docker;  ///< sockets of Docker engines, best first
  };
  explicit HelperContainers(Parts parts) : parts_(std::move(parts)) {}
  HelperContainers(const HelperContainers&) = delete;
  HelperContainers& operator=(const HelperContainers&) = delete;

  /// @return null when it is none of Docker's, or this user may use no socket of Docker's. The
  /// first time that one is used, what a daemon that was killed has left there is removed.
  [[nodiscard]] std::shared_ptr<HelperLauncher> launcher_for(const Container& container);

 private:
  friend class HelperLauncher;
  void sweep(const std::string& engine);
  void remove(const std::string& engine, const std::string& id);
  void ask(HttpRequest request, std::function<void(const HttpAnswer&)> done);

  Parts parts_;
  std::uint64_t sockets_ = 0;
  std::set<std::string> swept_;  ///< sockets
  std::list<HttpCall> calls_;
};

}  // namespace portfwd
