// Facts that engines report of their containers and that /proc does not show: names, images,
// labels, pods, projects, published ports. Owned by main; observes the Registry and completes its
// containers. The containers themselves are found by Discovery; only engines on other machines,
// which are listed as inaccessible, are added here.
//
// A container is queried when it is found, and again after the stream of its Docker engine was
// interrupted. An engine that is absent or does not answer changes nothing. Without a container of
// an engine there is no query, and podman's service is not kept running.
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
#include "engine/container_query.h"
#include "engine/engine_events.h"

namespace portfwd {

/// Set the labels of a container, whose size is limited already (engine/answers.h), and the port
/// metadata, which is parsed here once, as it may be long.
/// @param workspace from the devcontainer.json of its folder, overrides the label; may be null
/// @return whether anything changed
bool set_labels(Container& container, std::map<std::string, std::string> labels,
                const devcontainer::PortMetadata* workspace = nullptr);

// Reads the devcontainer.json of the folder that a container's labels name. The facts reported by
// the engine are held until then, so that both are applied together. Owned by EngineFacts. If a
// file system hangs, the container waits for the reader's deadline; other containers do not wait.
class WorkspaceFiles {
 public:
  using OnFacts = std::move_only_function<void(const ContainerFacts&)>;

  /// @param files a reader of files, borrowed
  /// @param owner files of other users are not read
  /// @param on_facts called with the facts, completed by the contents of the file
  WorkspaceFiles(Reader& files, uid_t owner, OnFacts on_facts)
      : files_(files), owner_(owner), on_facts_(std::move(on_facts)) {}

  /// Read the file for these facts. Calls `on_facts` at once if the labels name no folder.
  void add(const ContainerFacts& facts);
  /// Cancel the reading for a container. @param id the engine's
  void forget(const std::string& id) { reading_.erase(id); }

 private:
  struct Reading {
    ContainerFacts facts;
    std::vector<devcontainer::ConfigPlace> places;  ///< the first one is being read
    Reader::Call call;
  };
  void read_first(const std::string& id, Reading& reading);
  void on_file(const std::string& id, const Result<std::string>& text);

  Reader& files_;
  uid_t owner_;
  OnFacts on_facts_;
  std::map<std::string, Reading> reading_;  ///< by the engine's id
};

class EngineFacts final : public RegistryObserver {
 public:
  /// Longest time that the listeners of a container wait for the answer of its engine, see
  /// Container::undecided.
  static constexpr Duration kLongestWait = std::chrono::milliseconds(400);

  /// The references are borrowed and must outlive this. @param files reads those of workspaces
  EngineFacts(EventLoop& loop, Registry& registry, HttpClient& http, EngineSockets sockets,
              PodmanFiles podman_files, Reader& files);
  EngineFacts(const EngineFacts&) = delete;
  EngineFacts& operator=(const EngineFacts&) = delete;
  ~EngineFacts() { registry_.remove_observer(*this); }

  void on_engine_known(ContainerEntry& entry) override;
  void on_container_added(const Container& container) override { query_once(container); }
  void on_container_changed(const Container& container) override { query_once(container); }
  void on_container_removed(const Container& container, RemovalReason reason) override;
  void on_sign_of_life(const Container&) override {}

  /// Complete a container by the facts that its engine has reported.
  void apply(const ContainerFacts& facts);

 private:
  [[nodiscard]] static bool is_podmans(const Container& container);
  void query_once(const Container& container);
  void end_wait(const std::string& id);
  void end_waits();
  void share_published(const std::string& owner);
  void list_elsewhere();
  void watch_podman();
  void read_podman_store();
  bool start_podman_store();
  void watch_docker(const std::string& socket, const std::string& id);
  void query_again(const std::string& socket);
  void on_event(EngineKind engine, const ContainerEvent& event);
  void rename(std::string_view id, std::string_view name);

  // Ids below are the engine's ids of containers.
  EventLoop& loop_;
  Registry& registry_;
  HttpClient& http_;
  const std::vector<EngineElsewhere> elsewhere_;
  const PodmanFiles podman_files_;
  std::set<std::string> queried_;                     ///< ids that were queried
  std::map<std::string, TimePoint> undecided_until_;  ///< by id
  /// By id: the id of the container whose network it has joined, "" for none.
  std::map<std::string, std::string> network_owner_;
  WorkspaceFiles workspaces_;
  ContainerQuery podman_;
  ContainerQuery docker_;
  PodmanEvents podman_events_;
  PodmanStore podman_store_;
  bool podman_events_watched_ = false;
  bool podman_store_watched_ = false;
  std::map<std::string, std::string> docker_socket_of_;                 ///< by id
  std::map<std::string, std::unique_ptr<DockerEvents>> docker_events_;  ///< by socket
  Timer waits_;
  Timer begin_;
  Timer read_store_;
};

}  // namespace portfwd
