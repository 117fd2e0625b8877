// Access to a network namespace of root whose engine this user may command. It begins as a bridge.
// The first listener that cannot be dialled from outside, or the first port that is to be opened
// inside, has a helper container started; from then on sockets made inside watch and dial. While
// there is no helper, since it fails to start or the user may not use the engine's socket, the
// bridge stays, and the helper is retried every kRetry.
#pragma once

#include <sys/types.h>

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "access/bridge_access.h"
#include "access/container_access.h"
#include "access/netns_access.h"
#include "broker/client/broker_launcher.h"
#include "discover/container.h"
#include "engine/http_client.h"
#include "event/event_loop.h"

namespace portfwd::helper {

// Requests to an engine about helper containers, as texts, and the parsers of its answers. Pure.
// Source: docs.docker.com/reference/api/engine/version/v1.40 (Docker 19.03 and later; Podman's
// compatible API).

/// A helper container to create.
struct Spec {
  std::string container_id;  ///< the container whose network namespace it joins
  std::string image_id;      ///< the container's own: nothing is pulled
  std::string program;       ///< path of portfwd-broker on the host
  std::string socket;        ///< path on the host of the socket to which it must connect
  std::string folder;        ///< the daemon's runtime folder: identifies the daemon
  std::string life;          ///< of the daemon: a helper of another life is a leftover
  uid_t uid = 0;
  gid_t gid = 0;
};

/// The body of POST /containers/create: no capability, no new privileges, nothing writable, the
/// user's own uid, removed when it exits.
[[nodiscard]] std::string creation(const Spec& spec);

[[nodiscard]] std::string inspect_path(std::string_view container_id);
[[nodiscard]] std::string create_path();
[[nodiscard]] std::string start_path(std::string_view id);
[[nodiscard]] std::string remove_path(std::string_view id);
/// All helpers of a daemon with that runtime folder, running or not.
[[nodiscard]] std::string list_path(std::string_view folder);

/// "" when the answer has none.
[[nodiscard]] std::string image_of(std::string_view inspected);
[[nodiscard]] std::string id_of(std::string_view created);
[[nodiscard]] std::string message_of(std::string_view failure);
/// The helpers in a list that are not of that life.
[[nodiscard]] std::vector<std::string> ids_of(std::string_view list, std::string_view but_of_life);
}  // namespace portfwd::helper

namespace portfwd {

// One helper container, from its start to its removal: gets the image of the container to enter
// from the engine that knows the container, has that engine create a helper from the image, starts
// it, and sends it its end of the broker's socket pair when it connects. Owned by the
// HelperLauncher; its destruction removes the helper. It knows nothing of the broker's protocol.
class HelperStart final : private IoHandler {
 public:
  struct Parts {
    EventLoop& loop;
    HttpClient& http;
    std::vector<std::string> engines;  ///< sockets, best first; not empty
    /// Removes a helper, sooner or later.
    std::function<void(const std::string& engine, const std::string& id)> remove;
    /// Called before `end` is closed, also from the constructor. @param why the end of a sentence
    std::function<void(std::string why)> failed;
  };
  /// @param spec without image_id @param end passed to the helper; closed when it fails to start
  HelperStart(Parts parts, helper::Spec spec, UniqueFd end);
  HelperStart(const HelperStart&) = delete;
  HelperStart& operator=(const HelperStart&) = delete;
  ~HelperStart();

 private:
  using Next = void (HelperStart::*)(const std::string& body);

  [[nodiscard]] Result<void> listen();
  [[nodiscard]] const std::string& engine() const { return parts_.engines.front(); }
  void find_image();
  void ask(HttpRequest::Method method, std::string path, std::string body, Next next);
  void create(const std::string& inspected);
  void start(const std::string& created);
  void started(const std::string&) {}  // it will connect
  void on_io(IoSource& source, std::uint32_t events) override;
  void report_failure(std::string why);

  Parts parts_;
  helper::Spec spec_;
  UniqueFd end_;
  std::string id_;  ///< of the helper; "" before there is one
  HttpCall call_;
  UniqueFd listening_;
  IoSource source_;
};

class HelperContainers;

/// Starts the helpers of one container, one at a time.
class HelperLauncher final : public BrokerLauncher {
 public:
  HelperLauncher(HelperContainers& owner, std::string container_id)
      : owner_(owner), container_id_(std::move(container_id)) {}

  /// Whether this user may access the socket of an engine.
  [[nodiscard]] bool usable() const;
  /// How the user can permit to enter the container, as the end of a sentence.
  [[nodiscard]] std::string hint() const;
  /// The socket exists at once; what is sent waits until the helper has connected. EACCES: not
  /// usable.
  [[nodiscard]] Result<BrokerProcess> launch() override;
  void discard(BrokerProcess) override { running_.reset(); }
  [[nodiscard]] Duration patience() const override { return std::chrono::seconds(20); }
  /// Why the last one did not start, as the end of a sentence; "" when it is not known.
  [[nodiscard]] const std::string& failure() const { return failure_; }

 private:
  HelperContainers& owner_;
  std::string container_id_;
  std::string failure_;
  std::unique_ptr<HelperStart> running_;
};

// Helper containers: brokers started by an engine, for containers of root that this user cannot
// enter but whose engine socket this user may access (the group docker). Owned by main. It keeps no
// helper alive: their clients do, and a helper exits when its socket is closed.
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
  /// Leftovers of a daemon that was killed are removed from within the loop, once an engine is
  /// known to run.
  explicit HelperContainers(Parts parts);
  HelperContainers(const HelperContainers&) = delete;
  HelperContainers& operator=(const HelperContainers&) = delete;

  /// @return null unless it is a container of Docker
  [[nodiscard]] std::shared_ptr<HelperLauncher> launcher_for(const Container& container);

 private:
  friend class HelperLauncher;
  [[nodiscard]] std::vector<std::string> usable() const;
  void remove_leftovers();
  void remove_leftovers_of(const std::string& engine);
  void remove(const std::string& engine, const std::string& id);
  void ask(HttpRequest request, std::function<void(const HttpAnswer&)> done);

  Parts parts_;
  std::uint64_t sockets_ = 0;
  std::set<std::string> swept_;  ///< sockets of engines without leftovers
  std::list<HttpCall> calls_;
  const std::string life_;
  bool engine_seen_ = false;
  Timer remove_leftovers_;
};

class HelperAccess final : public NetnsAccess, private Dialer {
 public:
  static constexpr Duration kRetry = std::chrono::seconds(60);

  struct Entry {
    pid_t pid = 0;  ///< a process inside, held by the caller's pidfd
    BridgeDialer::Inside inside;
    std::shared_ptr<HelperLauncher> launcher;
  };
  HelperAccess(const Parts& parts, RelayContext& relay, Entry entry);

  [[nodiscard]] AccessKind kind() const override {
    return entered_ ? AccessKind::Helper : AccessKind::Bridge;
  }
  /// Before the helper has connected only TCP is dialled: see BridgeView.
  [[nodiscard]] Dialer& dialer(Protocol protocol) override {
    return protocol == Protocol::Udp && entered_ ? sockets_->dialer(protocol) : *this;
  }
  /// A request to a helper that is being started waits for it.
  [[nodiscard]] Answer<std::unique_ptr<InsidePort>> listen_inside(Port port,
                                                                  OnInsidePort on_port) override;

 private:
  [[nodiscard]] DialStart dial(std::span<const Address> candidates, TimePoint deadline,
                               DialHandler& handler) override;
  void on_source_needed() override;
  void prepare_dialing(std::vector<Listener>& listeners) override;
  void start_helper();
  void on_helper_started();
  void on_helper_failed(const Error& error);

  RelayContext& relay_;
  std::shared_ptr<HelperLauncher> launcher_;
  BridgeView view_;
  std::string trouble_;                  ///< with the last helper
  std::optional<NetnsSockets> sockets_;  ///< from the start of a helper until it fails
  bool entered_ = false;                 ///< the helper has connected; implies sockets_
  Timer retry_;
};

}  // namespace portfwd
