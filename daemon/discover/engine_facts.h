// Asks engines for what /proc does not show of their containers: names, images, labels, pods and
// projects, published ports. Owned by main; it observes the Registry, and tells it. It finds no
// containers.
//
// Each container is asked for once, when it was found; an engine that is absent or silent changes
// nothing. Nothing is asked while no container of an engine runs, and no podman is kept running.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "broker/client/reader.h"
#include "devcontainer/workspace.h"
#include "discover/registry.h"
#include "engine/answers.h"
#include "engine/container_asker.h"
#include "engine/engine_events.h"
#include "engine/podman_store.h"

namespace portfwd {

// Reads the devcontainer.json of the folder that a container's labels name, before what its engine
// said is taken in, so that both are there together. Owned by EngineFacts. A container whose file
// system does not answer waits for the reader's deadline, and nobody else does.
class WorkspaceFiles {
 public:
  using Learn = std::function<void(const ContainerFacts&)>;

  /// @param files a reader of files, borrowed @param owner whose files are read
  /// @param learn is given the facts with what the file says
  WorkspaceFiles(Reader& files, uid_t owner, Learn learn)
      : files_(files), owner_(owner), learn_(std::move(learn)) {}

  /// Calls `learn` at once when the labels name no folder.
  void add(const ContainerFacts& facts);
  /// The container has gone.
  void forget(const std::string& id) { reading_.erase(id); }

 private:
  struct Reading {
    ContainerFacts facts;
    std::vector<devcontainer::ConfigPlace> places;  ///< the first of them is being read
    Reader::Call call;
  };
  void read_first(const std::string& id, Reading& reading);
  void on_file(const std::string& id, const Result<std::string>& text);

  Reader& files_;
  uid_t owner_;
  Learn learn_;
  std::map<std::string, Reading> reading_;  ///< by the engine's id
};

class EngineFacts final : public RegistryObserver {
 public:
  /// All but the sockets and podman's files outlive this. @param files reads those of workspaces
  EngineFacts(EventLoop& loop, Registry& registry, HttpClient& http, EngineSockets sockets,
              PodmanFiles podman_files, Reader& files);
  EngineFacts(const EngineFacts&) = delete;
  EngineFacts& operator=(const EngineFacts&) = delete;
  ~EngineFacts() {
    registry_.remove_observer(*this);
    registry_.set_tell_first({});
  }

  void on_container_added(const Container& container) override { consider(container); }
  void on_container_changed(const Container& container) override { consider(container); }
  void on_container_removed(const Container& container, RemovalReason reason) override;
  void on_sign_of_life(const Container&) override {}

 private:
  [[nodiscard]] static bool is_podmans(const Container& container);
  Registry::FirstWord first_word_of(const Container& container);
  void consider(const Container& container);
  void list_elsewhere();
  void follow_podman();
  void read_podman_store();
  bool start_podman_store();
  void follow_docker(const std::string& socket, const std::string& id);
  void ask_again(const std::string& socket);
  void on_event(EngineKind engine, const ContainerEvent& event);

  EventLoop& loop_;
  Registry& registry_;
  HttpClient& http_;
  const std::vector<EngineElsewhere> elsewhere_;
  const PodmanFiles podman_files_;
  std::set<std::string> considered_;  ///< engines' ids
  WorkspaceFiles workspaces_;
  ContainerAsker podman_;
  ContainerAsker docker_;
  PodmanEvents podman_events_;
  PodmanStore podman_store_;
  bool podman_events_followed_ = false;
  bool podman_store_followed_ = false;
  std::map<std::string, std::string> docker_socket_of_;  ///< by the engine's id of a container
  std::map<std::string, std::unique_ptr<DockerEvents>> docker_events_;  ///< by socket
  Timer begin_;
  Timer read_store_;
};

}  // namespace portfwd
