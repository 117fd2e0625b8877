#include "discover/workspace_files.h"

#include <memory>
#include <utility>

#include "devcontainer/port_metadata.h"

namespace portfwd {

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
