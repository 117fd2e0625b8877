// Access to a network namespace of root, by an engine whose socket this user may use. It begins as
// a bridge. A helper container is started when the first listener cannot be dialled from outside,
// or when the first port is opened inside; once it has connected, sockets made inside watch and
// dial. While the helper does not start, or the user may not use the engine's socket, the access
// remains a bridge, and the start is retried every kRetry.
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
  std::string image_id;      ///< image of that container, so that no image is pulled
  std::string program;       ///< path of portfwd-broker on the host
  std::string socket;        ///< path on the host of the socket to which it must connect
  std::string folder;        ///< the daemon's runtime folder; identifies the daemon
  std::string life;  ///< identifies the run of the daemon: helpers of other runs are leftovers
  uid_t uid = 0;
  gid_t gid = 0;
};

/// Body of POST /containers/create: no capabilities, no new privileges, nothing writable but the
/// socket, the uid and gid of the user, removed when it exits.
[[nodiscard]] std::string creation(const Spec& spec);

[[nodiscard]] std::string inspect_path(std::string_view container_id);
[[nodiscard]] std::string create_path();
[[nodiscard]] std::string start_path(std::string_view id);
[[nodiscard]] std::string remove_path(std::string_view id);
/// Path that lists all helpers of a daemon with that runtime folder, running or not.
[[nodiscard]] std::string list_path(std::string_view folder);

/// The image of a container, the id of a new one, the message of a failure; "" when the answer has
/// none.
[[nodiscard]] std::string image_of(std::string_view inspected);
[[nodiscard]] std::string id_of(std::string_view created);
[[nodiscard]] std::string message_of(std::string_view failure);
/// Ids of the helpers in a list that belong to another run of the daemon.
[[nodiscard]] std::vector<std::string> ids_of(std::string_view list, std::string_view but_of_life);
}  // namespace portfwd::helper

namespace portfwd {

// One helper container, from its start to its removal. It asks the engine that knows the container
// for its image, has the engine create and start a helper from that image, and sends the helper its
// end of the broker's socket pair when it connects. Owned by the HelperLauncher; its destruction
// removes the helper. It does not know the protocol of the broker.
class HelperStart final : private IoHandler {
 public:
  struct Parts {
    EventLoop& loop;
    HttpClient& http;
    std::vector<std::string> engines;  ///< sockets, the preferred one first; not empty
    /// Requests the removal of a helper; does not wait.
    std::function<void(const std::string& engine, const std::string& id)> remove;
    /// Called before `end` is closed; possibly from the constructor.
    /// @param why the end of a sentence
    std::function<void(std::string why)> failed;
  };
  /// @param spec without image_id
  /// @param end sent to the helper; closed when the helper fails to start
  HelperStart(Parts parts, helper::Spec spec, UniqueFd end);
  HelperStart(const HelperStart&) = delete;
  HelperStart& operator=(const HelperStart&) = delete;
  ~HelperStart();

 private:
  using Next = void (HelperStart::*)(const std::string& body);

  [[nodiscard]] Result<void> listen();
  [[nodiscard]] const std::string& engine() const { return parts_.engines.front(); }
  void find_image();
  void send_request(HttpRequest::Method method, std::string path, std::string body, Next next);
  void create(const std::string& inspected);
  void start(const std::string& created);
  void started(const std::string&) {}  // on_io() follows
  void on_io(IoSource& source, std::uint32_t events) override;
  void report_failure(std::string why);

  Parts parts_;
  helper::Spec spec_;
  UniqueFd end_;
  std::string id_;  ///< of the helper; "" before it is created
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
  /// How the user could permit access to the container, as the end of a sentence.
  [[nodiscard]] std::string hint() const;
  /// Starts a helper. The socket is usable at once; what is sent waits until the helper has
  /// connected. EACCES: not usable().
  [[nodiscard]] Result<BrokerProcess> launch() override;
  void discard(BrokerProcess) override { running_.reset(); }
  [[nodiscard]] Duration join_timeout() const override { return std::chrono::seconds(20); }
  /// Why the last helper did not start, as the end of a sentence; "" when unknown.
  [[nodiscard]] const std::string& failure() const { return failure_; }

 private:
  HelperContainers& owner_;
  std::string container_id_;
  std::string failure_;
  std::unique_ptr<HelperStart> running_;
};

// Helper containers: brokers started by an engine, for containers of root that this user cannot
// enter but whose engine socket the user may access (the group docker). Owned by main. It does not
// keep helpers alive: their clients do, and a helper exits when its socket is closed.
class HelperContainers {
 public:
  struct Parts {
    EventLoop& loop;
    HttpClient& http;
    std::string folder;               ///< for sockets; made when needed
    std::string program;              ///< path of portfwd-broker
    std::vector<std::string> docker;  ///< sockets of Docker engines, preferred first
    User user;
    /// Whether a Docker engine runs. A request to its socket could start one by socket activation.
    std::function<bool()> engine_runs;
  };
  /// Removes leftovers of a daemon that was killed, later from the loop, once an engine is known to
  /// run.
  explicit HelperContainers(Parts parts);
  HelperContainers(const HelperContainers&) = delete;
  HelperContainers& operator=(const HelperContainers&) = delete;

  /// @return null unless it is a Docker container with a known id
  [[nodiscard]] std::shared_ptr<HelperLauncher> launcher_for(const Container& container);

 private:
  friend class HelperLauncher;
  [[nodiscard]] std::vector<std::string> usable() const;
  void remove_leftovers();
  void remove_leftovers_of(const std::string& engine);
  void remove(const std::string& engine, const std::string& id);
  void send_request(HttpRequest request, std::function<void(const HttpAnswer&)> done);

  Parts parts_;
  std::uint64_t sockets_ = 0;
  std::set<std::string> cleaned_engines_;  ///< sockets of engines whose leftovers were removed
  std::list<HttpCall> calls_;
  const std::string life_;
  bool engine_seen_ = false;
  Timer remove_leftovers_;
};

class HelperAccess final : public NetnsAccess, private Dialer {
 public:
  static constexpr Duration kRetry = std::chrono::seconds(60);

  struct Entry {
    pid_t pid = 0;  ///< a process inside; the caller must hold its pidfd
    BridgeDialer::Inside inside;
    std::shared_ptr<HelperLauncher> launcher;
  };
  HelperAccess(const Parts& parts, RelayContext& relay, Entry entry);

  [[nodiscard]] AccessKind kind() const override {
    return entered_ ? AccessKind::Helper : AccessKind::Bridge;
  }
  /// Before the helper has connected, only TCP can be dialled; see BridgeView.
  [[nodiscard]] Dialer& dialer(Protocol protocol) override {
    return protocol == Protocol::Udp && entered_ ? sockets_->dialer(protocol) : *this;
  }
  /// If a helper is being started, the request waits for it.
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
  std::string failure_text_;             ///< failure of the last helper; "" if there was none
  std::optional<NetnsSockets> sockets_;  ///< from the start of a helper, until it fails to start
  bool entered_ = false;                 ///< the helper has connected; implies sockets_
  Timer retry_;
};

}  // namespace portfwd
