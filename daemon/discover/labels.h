// The place where a container's labels are learned, whoever tells them.
#pragma once

#include <map>
#include <string>

#include "discover/container.h"

namespace portfwd {

/// Takes in what an engine told, bounded by then (engine/container_facts.h). What kMetadataLabel
/// says of ports is read here, once, as it may be long. @return whether anything is news
/// @param workspace what the file of its folder says, which comes over the label; may be null
bool learn_labels(Container& container, std::map<std::string, std::string> labels,
                  const devcontainer::PortMetadata* workspace = nullptr);

}  // namespace portfwd
