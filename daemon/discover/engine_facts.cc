// See engine_facts.h.

#include "discover/engine_facts.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <memory>
#include <optional>
#include <utility>

#include "devcontainer/port_metadata.h"
#include "engine/answers.h"

namespace portfwd {

namespace {

/// @return whether it changed
template <class Value>
bool assign(Value& known, Value now) {
  if (known == now) return false;
  known = std::move(now);
  return true;
}

bool assign_text(std::string& known, std::string_view text) {
  return assign(known, names::printable(text, names::kLongestText));
}

/// The id of the container whose network this one has joined, or "". Docker reports the published
/// ports of a shared network only for that container.
std::string network_owner_of(const ContainerFacts& facts) {
  constexpr std::string_view kJoined = "container:";
  return facts.network_mode.starts_with(kJoined) ? facts.network_mode.substr(kJoined.size()) : "";
}

}  // namespace

/// The file overrides the label: the label comes with the image, the file is the user's.
bool set_labels(Container& container, std::map<std::string, std::string> labels,
                const devcontainer::PortMetadata* workspace) {
  std::shared_ptr<const devcontainer::PortMetadata> metadata;
  if (const auto label = labels.extract(kMetadataLabel)) {
    metadata = std::make_shared<const devcontainer::PortMetadata>(
        devcontainer::parse_port_metadata(label.mapped(), devcontainer::local_environment));
  }
  if (workspace != nullptr) {
    metadata = std::make_shared<const devcontainer::PortMetadata>(
        metadata ? merge(*metadata, *workspace) : *workspace);
  }
  const bool same = metadata && container.metadata ? *metadata == *container.metadata
                                                   : metadata == container.metadata;
  if (same && labels == container.labels) return false;
  if (!same) container.metadata = std::move(metadata);
  container.labels = std::move(labels);
  return true;
}

EngineFacts::EngineFacts(EventLoop& loop, Registry& registry, HttpClient& http,
                         EngineSockets sockets, PodmanFiles podman_files, Reader& files)
    : loop_(loop),
      registry_(registry),
      http_(http),
      elsewhere_(std::move(sockets.elsewhere)),
      podman_files_(std::move(podman_files)),
      workspaces_(files, ::geteuid(), [this](const ContainerFacts& facts) { apply(facts); }),
      podman_(
          loop, http, EngineKind::Podman, std::move(sockets.podman),
          [this](const std::string&, const ContainerFacts& facts) { workspaces_.add(facts); },
          [this](const std::string& id) { end_wait(id); }),
      docker_(
          loop, http, EngineKind::Docker, std::move(sockets.docker),
          [this](const std::string& socket, const ContainerFacts& facts) {
            workspaces_.add(facts);
            watch_docker(socket, facts.id);
          },
          [this](const std::string& id) { end_wait(id); }),
      podman_events_(loop,
                     [this](const ContainerEvent& event) { on_event(EngineKind::Podman, event); }),
      podman_store_(loop,
                    [this](const std::string& id, const std::string& name) {
                      on_event(EngineKind::Podman, {id, "rename", name, id_to_replace(name)});
                    }),
      waits_(loop, [this] { end_waits(); }),
      begin_(loop, [this] { list_elsewhere(); }),
      read_store_(loop, [this] { read_podman_store(); }) {
  registry_.add_observer(*this);
  begin_.arm_now();  // in the next turn, when all observers are registered
}

void EngineFacts::list_elsewhere() {
  for (const EngineElsewhere& engine : elsewhere_) {
    DiscoveredContainer found;
    found.identity = {std::string(name_of(engine.kind)), engine.address,
                      names::printable(engine.address)};
    found.inaccessible = fmt::format(
        "cannot query the engine: {} does not name a Unix socket, so its containers may be on "
        "another machine; run portfwd there, or forward ports with ssh -L",
        engine.named_by);
    found.held_by_request = true;
    registry_.add(std::move(found));
  }
}

/// Whether the user's podman knows the container. One whose namespace is not visible is another
/// user's.
bool EngineFacts::is_podmans(const Container& container) {
  return container.engine == "podman" && container.netns != 0;
}

/// Podman's storage has the name and the image even if its service does not run.
void EngineFacts::on_engine_known(ContainerEntry& entry) {
  Container& container = entry.container;
  const std::string& id = container.engine_id;
  assert(!id.empty());
  const bool podman = is_podmans(container);
  const bool will_query =
      names::is_hex_id(id) && (podman || container.engine == "docker") && !queried_.contains(id);
  container.undecided = will_query;
  if (will_query) {
    undecided_until_[id] = loop_.now() + kLongestWait;
    if (!waits_.armed()) waits_.arm_after(kLongestWait);
  }
  if (!names::is_hex_id(id) || !podman || !start_podman_store()) return;
  const ContainerFacts* facts = podman_store_.find_now(id);
  if (facts == nullptr) return;
  (void)entry.rename_by_engine(facts->name);
  if (!facts->image.empty()) (void)assign_text(container.image, facts->image);
}

/// A detached container stays as it is: attaching it causes another query.
void EngineFacts::apply(const ContainerFacts& facts) {
  const std::string owner = network_owner_of(facts);
  std::vector<PublishedPorts> published = facts.published;
  registry_.update(owner, [&](const ContainerEntry& entry) {
    published = entry.container.published;
    return false;
  });
  registry_.update(facts.id, [&](ContainerEntry& entry) {
    if (entry.detached) return false;
    network_owner_[facts.id] = owner;
    Container& container = entry.container;
    bool changed = entry.rename_by_engine(facts.name);
    changed |= assign_text(container.image, facts.image);
    changed |= assign_text(container.pod, facts.pod);
    changed |= assign_text(container.project, facts.project);
    changed |= assign_text(container.service, facts.service);
    changed |= set_labels(container, facts.labels, facts.workspace.get());
    changed |= assign(container.published, std::move(published));
    changed |= assign(container.publishes_unknown, false);
    changed |= assign(container.undecided, false);
    return changed;
  });
  share_published(facts.id);
}

/// Set the published ports of the containers that have joined the network of `owner`.
void EngineFacts::share_published(const std::string& owner) {
  std::optional<std::vector<PublishedPorts>> published;
  registry_.update(owner, [&](const ContainerEntry& entry) {
    published = entry.container.published;
    return false;
  });
  if (!published) return;
  std::vector<std::string> joined;  // copied: an observer may change network_owner_
  for (const auto& [id, of] : network_owner_) {
    if (of == owner) joined.push_back(id);
  }
  for (const std::string& id : joined) {
    registry_.update(
        id, [&](ContainerEntry& entry) { return assign(entry.container.published, *published); });
  }
}

/// The engine has not reported the container. Its listeners must not wait any longer.
void EngineFacts::end_wait(const std::string& id) {
  registry_.update(id, [](ContainerEntry& entry) {
    bool changed = assign(entry.container.publishes_unknown, false);
    changed |= assign(entry.container.undecided, false);
    return changed;
  });
}

/// Time out the waits for engines. Answers that arrive later are still applied.
void EngineFacts::end_waits() {
  const TimePoint now = loop_.now();
  TimePoint next = TimePoint::max();
  std::vector<std::string> over;
  for (const auto& [id, until] : undecided_until_) {
    if (until <= now) {
      over.push_back(id);
    } else {
      next = std::min(next, until);
    }
  }
  if (next != TimePoint::max()) waits_.arm_at(next);
  for (const std::string& id : over) {
    undecided_until_.erase(id);
    registry_.update(
        id, [](ContainerEntry& entry) { return assign(entry.container.undecided, false); });
  }
}

void EngineFacts::rename(std::string_view id, std::string_view name) {
  registry_.update(id, [name](ContainerEntry& entry) { return entry.rename_by_engine(name); });
}

void EngineFacts::query_once(const Container& container) {
  const bool podman = is_podmans(container);
  if (!podman && container.engine != "docker") return;
  if (container.engine_id.empty() || !queried_.insert(container.engine_id).second) return;
  (podman ? podman_ : docker_).request(container.engine_id);
  if (podman) watch_podman();
}

/// A file that does not exist is tried again with each new container.
void EngineFacts::watch_podman() {
  if (!podman_events_watched_) {
    podman_events_watched_ = podman_events_.start(podman_files_.events).has_value();
  }
  read_store_.arm_now();  // in the next turn, when all observers have been notified
}

/// A container may have been renamed since its start, and conmon's command line has the old name.
void EngineFacts::read_podman_store() {
  if (!start_podman_store()) return;
  for (const std::string& id : queried_) {
    if (const ContainerFacts* facts = podman_store_.find(id)) rename(id, facts->name);
  }
}

bool EngineFacts::start_podman_store() {
  if (!podman_store_watched_) {
    podman_store_watched_ = podman_store_.start(podman_files_.storage).has_value();
  }
  return podman_store_watched_;
}

void EngineFacts::on_container_removed(const Container& container, RemovalReason) {
  queried_.erase(container.engine_id);
  network_owner_.erase(container.engine_id);
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

void EngineFacts::watch_docker(const std::string& socket, const std::string& id) {
  if (!queried_.contains(id)) return;
  docker_socket_of_[id] = socket;
  auto& events = docker_events_[socket];
  if (events) return;
  events = std::make_unique<DockerEvents>(
      loop_, http_, socket,
      [this](const ContainerEvent& event) { on_event(EngineKind::Docker, event); },
      [this, socket] { query_again(socket); });
}

void EngineFacts::query_again(const std::string& socket) {
  for (const auto& [id, at] : docker_socket_of_) {
    if (at == socket) docker_.request(id);
  }
}

void EngineFacts::on_event(EngineKind engine, const ContainerEvent& event) {
  if (event.action == "rename") rename(event.id, event.name);
  if (!event.replaces.empty()) registry_.expect_successor(name_of(engine), event.replaces);
}

void WorkspaceFiles::add(const ContainerFacts& facts) {
  auto places = devcontainer::config_places(facts.labels);
  if (places.empty()) {
    reading_.erase(facts.id);
    return on_facts_(facts);
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
    metadata.complaints.push_back(devcontainer::describe_read_failure(place, text.error()));
  }
  ContainerFacts facts = std::move(reading.facts);
  reading_.erase(found);
  facts.workspace = std::make_shared<const devcontainer::PortMetadata>(std::move(metadata));
  on_facts_(facts);
}

}  // namespace portfwd
