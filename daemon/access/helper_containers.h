// Helper containers: brokers started by an engine, for containers of root that this user cannot
// enter but whose engine socket this user may access (the group docker). Owned by main. It keeps no
// helper alive: their clients do, and a helper ends with its socket.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "access/access_hint.h"
#include "access/helper_start.h"
#include "broker/client/broker_launcher.h"
#include "discover/container.h"

namespace portfwd {

class HelperContainers;

/// Starts the helpers of one container, one at a time.
class HelperLauncher final : public BrokerLauncher {
 public:
  HelperLauncher(HelperContainers& owner, std::string container_id)
      : owner_(owner), container_id_(std::move(container_id)) {}

  /// Whether this user may use the socket of some engine.
  [[nodiscard]] bool usable() const;
  /// What would permit to enter the container, as the end of a sentence.
  [[nodiscard]] std::string hint() const;
  /// The socket is there at once; what is sent waits until the helper has come. EACCES: not usable.
  [[nodiscard]] Result<BrokerProcess> launch() override;
  void discard(BrokerProcess) override { running_.reset(); }
  [[nodiscard]] Duration patience() const override { return std::chrono::seconds(20); }
  /// Why the last one did not come, as a sentence's end; "" when it is not known.
  [[nodiscard]] const std::string& failure() const { return failure_; }

 private:
  HelperContainers& owner_;
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
    User user;
    /// Whether some Docker engine runs. Asking a socket could start one: systemd may listen there.
    std::function<bool()> engine_runs;
  };
  /// What a daemon that was killed has left is removed from within the loop, when an engine is seen
  /// to run.
  explicit HelperContainers(Parts parts);
  HelperContainers(const HelperContainers&) = delete;
  HelperContainers& operator=(const HelperContainers&) = delete;

  /// @return null when it is none of Docker's
  [[nodiscard]] std::shared_ptr<HelperLauncher> launcher_for(const Container& container);

 private:
  friend class HelperLauncher;
  [[nodiscard]] std::vector<std::string> usable() const;
  void sweep();
  void sweep_one(const std::string& engine);
  void remove(const std::string& engine, const std::string& id);
  void ask(HttpRequest request, std::function<void(const HttpAnswer&)> done);

  Parts parts_;
  std::uint64_t sockets_ = 0;
  std::set<std::string> swept_;  ///< sockets
  std::list<HttpCall> calls_;
  const std::string life_;
  bool engine_seen_ = false;
  Timer sweep_;
};

}  // namespace portfwd
