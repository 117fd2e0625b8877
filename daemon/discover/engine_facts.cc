// See engine_facts.h.

#include "discover/engine_facts.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "devcontainer/port_metadata.h"
#include "engine/answers.h"

namespace portfwd {

EngineFacts::EngineFacts(EventLoop& loop, Registry& registry, HttpClient& http,
                         EngineSockets sockets, PodmanFiles podman_files, Reader& files)
    : loop_(loop),
      registry_(registry),
      http_(http),
      elsewhere_(std::move(sockets.elsewhere)),
      podman_files_(std::move(podman_files)),
      workspaces_(files, ::geteuid(),
                  [this](const ContainerFacts& facts) { registry_.learn(facts); }),
      podman_(
          loop, http, EngineKind::Podman, std::move(sockets.podman),
          [this](const std::string&, const ContainerFacts& facts) { workspaces_.add(facts); },
          [this](const std::string& id) { registry_.learn_nothing(id); }),
      docker_(
          loop, http, EngineKind::Docker, std::move(sockets.docker),
          [this](const std::string& socket, const ContainerFacts& facts) {
            workspaces_.add(facts);
            follow_docker(socket, facts.id);
          },
          [this](const std::string& id) { registry_.learn_nothing(id); }),
      podman_events_(loop,
                     [this](const ContainerEvent& event) { on_event(EngineKind::Podman, event); }),
      podman_store_(loop,
                    [this](const std::string& id, const std::string& name) {
                      on_event(EngineKind::Podman, {id, "rename", name, id_to_replace(name)});
                    }),
      begin_(loop, [this] { list_elsewhere(); }),
      read_store_(loop, [this] { read_podman_store(); }) {
  registry_.add_observer(*this);
  registry_.set_tell_first([this](const Container& container) { return first_word_of(container); });
  begin_.arm_now();  // when everybody observes
}

void EngineFacts::list_elsewhere() {
  for (const EngineElsewhere& engine : elsewhere_) {
    registry_.add_elsewhere(
        name_of(engine.kind), engine.address,
        fmt::format("{} names no Unix socket: its containers are on another machine, or portfwd "
                    "cannot know where; run portfwd there, or forward with ssh -L",
                    engine.named_by));
  }
}

/// A podman container whose namespace cannot be seen is another user's: ours would not know it.
bool EngineFacts::is_podmans(const Container& container) {
  return container.engine == "podman" && container.netns != 0;
}

/// Podman's storage has the name and the image, whether or not its service runs. No event of it can
/// be told from here: the container is not yet known to anybody.
Registry::FirstWord EngineFacts::first_word_of(const Container& container) {
  const bool podman = is_podmans(container);
  if (!names::is_hex_id(container.engine_id)) return {};
  Registry::FirstWord word;
  word.asked =
      (podman || container.engine == "docker") && !considered_.contains(container.engine_id);
  if (!podman || !start_podman_store()) return word;
  if (const ContainerFacts* facts = podman_store_.find_now(container.engine_id)) {
    word.name = facts->name;
    word.image = facts->image;
  }
  return word;
}

void EngineFacts::consider(const Container& container) {
  const bool podman = is_podmans(container);
  if (!podman && container.engine != "docker") return;
  if (container.engine_id.empty() || !considered_.insert(container.engine_id).second) return;
  (podman ? podman_ : docker_).ask(container.engine_id);
  if (podman) follow_podman();
}

/// While one of its files is not there, it is looked for with each new container.
void EngineFacts::follow_podman() {
  if (!podman_events_followed_) {
    podman_events_followed_ = podman_events_.start(podman_files_.events).has_value();
  }
  read_store_.arm_now();  // when everybody knows the container
}

/// conmon's command line has the name that a container was started with.
void EngineFacts::read_podman_store() {
  if (!start_podman_store()) return;
  for (const std::string& id : considered_) {
    if (const ContainerFacts* facts = podman_store_.find(id)) registry_.rename(id, facts->name);
  }
}

bool EngineFacts::start_podman_store() {
  if (!podman_store_followed_) {
    podman_store_followed_ = podman_store_.start(podman_files_.storage).has_value();
  }
  return podman_store_followed_;
}

void EngineFacts::on_container_removed(const Container& container, RemovalReason) {
  considered_.erase(container.engine_id);
  podman_.forget(container.engine_id);
  docker_.forget(container.engine_id);
  workspaces_.forget(container.engine_id);
  const auto known = docker_socket_of_.find(container.engine_id);
  if (known == docker_socket_of_.end()) return;
  const std::string socket = known->second;
  docker_socket_of_.erase(known);
  const bool last = std::ranges::none_of(docker_socket_of_,
                                         [&](const auto& other) { return other.second == socket; });
  if (last) docker_events_.erase(socket);
}

void EngineFacts::follow_docker(const std::string& socket, const std::string& id) {
  if (!considered_.contains(id)) return;
  docker_socket_of_[id] = socket;
  auto& events = docker_events_[socket];
  if (events) return;
  events = std::make_unique<DockerEvents>(
      loop_, http_, socket,
      [this](const ContainerEvent& event) { on_event(EngineKind::Docker, event); },
      [this, socket] { ask_again(socket); });
}

void EngineFacts::ask_again(const std::string& socket) {
  for (const auto& [id, at] : docker_socket_of_) {
    if (at == socket) docker_.ask(id);
  }
}

void EngineFacts::on_event(EngineKind engine, const ContainerEvent& event) {
  if (event.action == "rename") registry_.rename(event.id, event.name);
  if (!event.replaces.empty()) registry_.expect_successor(name_of(engine), event.replaces);
}

void WorkspaceFiles::add(const ContainerFacts& facts) {
  auto places = devcontainer::config_places(facts.labels);
  if (places.empty()) {
    reading_.erase(facts.id);
    return learn_(facts);
  }
  Reading& reading = reading_[facts.id];
  reading.facts = facts;
  reading.places = std::move(places);
  read_first(facts.id, reading);
}

void WorkspaceFiles::read_first(const std::string& id, Reading& reading) {
  const devcontainer::ConfigPlace& place = reading.places.front();
  reading.call =
      files_.read_file({place.folder, place.path, owner_, devcontainer::kLargestFile},
                       [this, id](const Result<std::string>& text) { on_file(id, text); });
}

void WorkspaceFiles::on_file(const std::string& id, const Result<std::string>& text) {
  const auto found = reading_.find(id);
  if (found == reading_.end()) return;
  Reading& reading = found->second;
  const devcontainer::ConfigPlace place = reading.places.front();
  if (!text && text.error().code == ENOENT && reading.places.size() > 1) {
    reading.places.erase(reading.places.begin());
    return read_first(id, reading);
  }
  devcontainer::PortMetadata metadata;
  if (text) {
    metadata = devcontainer::parse_port_metadata(*text, devcontainer::local_environment);
  } else if (text.error().code != ENOENT) {
    metadata.complaints.push_back(devcontainer::why_not_read(place, text.error()));
  }
  ContainerFacts facts = std::move(reading.facts);
  reading_.erase(found);
  facts.workspace = std::make_shared<const devcontainer::PortMetadata>(std::move(metadata));
  learn_(facts);
}

}  // namespace portfwd
