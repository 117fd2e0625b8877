// What an engine tells of one of its containers, whichever engine it is. Plain values, as the
// engine (or who made the container) wrote them: of bounded length, any characters.
#pragma once

#include <sys/types.h>

#include <compare>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "devcontainer/port_metadata.h"
#include "net/endpoint.h"

namespace portfwd {

/// Ports that the engine itself forwards (`-p`), `count` of them from these two on.
struct PublishedPorts {
  Protocol protocol = Protocol::Tcp;
  std::string host_address;  ///< numeric; "" for all of the host's
  Port host_port = 0;
  Port container_port = 0;
  unsigned count = 1;  ///< neither range goes beyond 65535

  friend auto operator<=>(const PublishedPorts&, const PublishedPorts&) = default;
};

/// What is kept of a container's labels: those that portfwd itself reads first, then as they come.
/// A label that is longer, or for which there is no room, is left out.
constexpr std::size_t kMostLabels = 64;
constexpr std::size_t kLongestLabel = 4096;          ///< bytes of a name, or of a value
constexpr std::size_t kMostLabelBytes = 64UL << 10;  ///< of all, but for kMetadataLabel
constexpr const char* kMetadataLabel = "devcontainer.metadata";
constexpr std::size_t kLongestMetadata = 256UL << 10;

struct ContainerFacts {
  std::string id;  ///< never empty
  std::string name;
  std::string image;         ///< as a person wrote it
  std::string image_id;      ///< a digest
  std::string state;         ///< "running", "created", "paused", ...
  std::string pod;           ///< the name of podman's pod
  std::string project;       ///< compose's
  std::string service;       ///< compose's
  std::string network_mode;  ///< Docker's: "host", "bridge", "container:ID", ...; else ""
  pid_t pid = 0;             ///< as the host counts; 0 when it is not told
  bool infra = false;        ///< it only holds the namespaces of a pod
  std::map<std::string, std::string> labels;
  std::vector<PublishedPorts> published;
  std::vector<IpAddress> addresses;  ///< Docker's: its own, in its networks
  /// What the devcontainer.json of the folder that its labels name says; null: they name none. Not
  /// the engine's word, but taken in with it (discover/workspace_files.h).
  std::shared_ptr<const devcontainer::PortMetadata> workspace;
};

/// Something has happened to a container.
struct ContainerEvent {
  std::string id;
  std::string action;  ///< "start", "died", "rename", ...
  std::string name;    ///< its name now
  /// The beginning of the id of the one that it is to take the place of, as compose says when it
  /// makes a container anew; else "".
  std::string replaces{};
};

}  // namespace portfwd
