// The names and images of this user's podman containers, from the file in which podman's storage
// keeps them (STORAGE/DRIVER-containers/containers.json; who has changed drivers has several): it
// is written anew, beside and renamed, whenever a container is made, renamed or removed, so inotify
// tells when to look. Nothing of podman runs on our account, wherever it writes its events to.
// Owned by EngineFacts.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/answers.h"
#include "kernel/inotify.h"

namespace portfwd {

class PodmanStore final {
 public:
  /// A container that is new there, or renamed.
  using OnName = std::function<void(const std::string& id, const std::string& name)>;
  PodmanStore(EventLoop& loop, OnName on_name);

  /// Tells the names that are there, and from then on those that are new.
  /// @param storage podman's graph root @return ENOENT and others when there is none
  Result<void> start(const std::string& storage);
  /// Name and image as last read; nullptr when it is not there.
  [[nodiscard]] const ContainerFacts* find(const std::string& id) const;
  /// The same, but what is not there is looked for anew.
  [[nodiscard]] const ContainerFacts* find_now(const std::string& id);

 private:
  void on_events(std::span<const Inotify::Event> events);
  void read_names();

  OnName on_name_;
  std::vector<std::string> files_;
  std::map<std::string, ContainerFacts> stored_;  ///< as last read; by id
  Inotify inotify_;
};

}  // namespace portfwd
