// Paths of Unix sockets on the host: which one each forward listens at, and which are remembered
// for the next time. Part of the ForwardSet.
//
// A forward that asks for no path listens at FOLDER/CONTAINER/NAME, in a folder of portfwd's own
// that only the user may enter. NAME is the last part of the path inside; a second socket of that
// name gets "NAME-2". A PathBroker makes the socket, which takes a few turns of the loop, since the
// daemon itself does not look up paths that a file system may delay.
//
// A path at which there is another file is a conflict. Only a socket that a former daemon has made
// there is replaced: in portfwd's own folder any socket, elsewhere the one whose file is
// remembered.
#pragma once

#include <expected>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "broker/client/path_broker.h"
#include "forward/forward.h"
#include "forward/host_places.h"
#include "relay/host_socket_dialer.h"
#include "relay/unix_binding.h"
#include "state/container_memory.h"
#include "state/state.h"

namespace portfwd {

/// Where the sockets on the host are made. Borrowed.
struct HostPathParts {
  PathBroker* broker = nullptr;            ///< of the host; null: no forward has a Unix socket
  UserEnvironment* environment = nullptr;  ///< likewise
  std::string folder;                      ///< absolute; made when it is missing, mode 0700
};

/// FOLDER/CONTAINER/NAME for a socket inside, see above. Characters that a path should not have
/// become '_'. Pure.
/// @param number 1 for the first socket of that name; 2 for the second ...
[[nodiscard]] std::string automatic_path(const std::string& folder, const std::string& container,
                                         const Target& target, unsigned number);

class HostPaths final : public HostPlaces {
 public:
  /// @param on_ready called with the id of a forward after Outcome::Requested: bind() must be
  /// called once more
  HostPaths(HostPathParts parts, std::function<void(const std::string& forward_id)> on_ready,
            std::function<void()> on_remembered_changed)
      : parts_(std::move(parts)),
        on_ready_(std::move(on_ready)),
        on_remembered_changed_(std::move(on_remembered_changed)) {}

  void restore(const State& state);
  void save(State& state) const;

  [[nodiscard]] Outcome bind(HostForward& forward, TimePoint now) override;
  void release(const HostForward& forward) override;
  [[nodiscard]] bool misplaced(const HostForward& forward, const Treatment& treatment) override;
  [[nodiscard]] bool remembered_elsewhere(const HostForward& forward) const override;
  void remember(const HostForward& forward) override;
  [[nodiscard]] bool at_home(const HostForward& /*forward*/, const ForwardSpec& /*spec*/) override {
    return true;
  }

 private:
  struct Request {
    std::string path;
    PathCall call;
    std::optional<std::expected<BoundSocket, PathFailure>> result;
  };
  struct Held {
    std::string forward_id;
    std::string container;
    SocketType type = SocketType::Stream;
    broker::FileId file;
  };

  [[nodiscard]] std::expected<std::string, std::string> choose(const HostForward& forward) const;
  [[nodiscard]] Outcome request(HostForward& forward, const std::string& path);
  [[nodiscard]] Outcome adopt(HostForward& forward, Request request);
  [[nodiscard]] std::optional<broker::FileId> replaceable(const HostForward& forward,
                                                          const std::string& path) const;
  [[nodiscard]] const Held* holder(const std::string& path, const HostForward& forward) const;

  HostPathParts parts_;
  std::function<void(const std::string&)> on_ready_;
  std::function<void()> on_remembered_changed_;
  std::map<std::string, Request> requests_;  ///< by forward id
  std::map<std::string, Held> held_;         ///< by path
  StickyPaths sticky_;
};

}  // namespace portfwd
