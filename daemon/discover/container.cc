
#include "discover/container.h"

#include <utility>

#include "devcontainer/port_metadata.h"
#include "kernel/netns.h"

namespace portfwd {

/// The label comes with the image, the file is nearer to the user.
bool learn_labels(Container& container, std::map<std::string, std::string> labels,
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

Result<Held> hold(const ProcDir& proc, pid_t pid) {
  auto pidfd = open_pidfd(pid);
  if (!pidfd) return std::unexpected(pidfd.error());
  auto netns = proc.open_netns(pid);
  if (has_exited(pidfd->get())) return fail("pidfd_open", ESRCH);
  if (!netns) return std::unexpected(netns.error());
  return Held{std::move(*pidfd), std::move(*netns)};
}

}  // namespace portfwd
