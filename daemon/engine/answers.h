// Parsers for answers and events of engines. Pure, for any bytes: a member that is missing or of
// another type is ignored, and text that is not JSON gives nothing. One parser reads the answers of
// Docker's API and of podman's, as their keys do not collide.
// Sources: docs.docker.com/reference/api/engine, docs.podman.io/en/latest/_static/api.html
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "devcontainer/port_metadata.h"
#include "net/address.h"

namespace portfwd {

/// A range of ports that the engine itself forwards (`-p`).
struct PublishedPorts {
  Protocol protocol = Protocol::Tcp;
  std::string host_address;  ///< numeric; "": all addresses of the host
  Port host_port = 0;        ///< the first one of the range
  Port container_port = 0;   ///< likewise
  unsigned count = 1;        ///< ports in the range; neither end exceeds 65535

  friend auto operator<=>(const PublishedPorts&, const PublishedPorts&) = default;
};

// Limits of a container's labels. The labels that portfwd itself reads come first, then the others
// in their order. A label that exceeds a limit is left out.
constexpr std::size_t kMostLabels = 64;
constexpr std::size_t kLongestLabel = 4096;          ///< bytes of a name, or of a value
constexpr std::size_t kMostLabelBytes = 64UL << 10;  ///< of all labels except kMetadataLabel
constexpr const char* kMetadataLabel = "devcontainer.metadata";
constexpr std::size_t kLongestMetadata = 256UL << 10;

/// Facts that an engine reports of a container. The texts are of limited length but may contain any
/// characters.
struct ContainerFacts {
  std::string id;  ///< never empty
  std::string name;
  std::string image;         ///< as the user wrote it
  std::string image_id;      ///< a digest
  std::string state;         ///< "running", "created", "paused", ...
  std::string pod;           ///< name of the pod, podman only
  std::string project;       ///< compose project
  std::string service;       ///< compose service
  std::string network_mode;  ///< Docker only: "host", "bridge", "container:ID", ...
  pid_t pid = 0;             ///< on the host; 0: not reported
  bool infra = false;        ///< it only holds the namespaces of a pod
  std::map<std::string, std::string> labels;
  std::vector<PublishedPorts> published;
  std::vector<IpAddress> addresses;  ///< Docker only: its addresses in its networks
  /// From the devcontainer.json of the folder that its labels name; null: they name none. The
  /// engine does not report it; it is added before the facts are applied, see WorkspaceFiles.
  std::shared_ptr<const devcontainer::PortMetadata> workspace;
};

/// An event of a container.
struct ContainerEvent {
  std::string id;
  std::string action;  ///< "start", "died", "rename", ...
  std::string name;    ///< after the event
  /// If compose has made it to replace another container: a prefix of the id of that one; else "".
  std::string replaces{};
};

/// A member of an object, or an element of a list, in JsonSlices.
struct JsonSlice {
  std::string_view key;    ///< of a member, without quotes, escapes as written; "" in a list
  std::string_view value;  ///< as written, not checked
};

// Iteration over the members of a JSON list or object as texts, which are delimited by brackets and
// strings alone. No tree is built, and the contents of a member are not checked, so that only the
// relevant parts of an answer of megabytes are parsed. For texts that are too large for
// base/json_reader.h. Pure.
class JsonSlices {
 public:
  /// @param text must outlive this and the slices
  explicit JsonSlices(std::string_view text);

  [[nodiscard]] bool is_list() const { return close_ == ']'; }
  [[nodiscard]] bool is_object() const { return close_ == '}'; }
  /// @return nothing at the end or if the text is malformed
  std::optional<JsonSlice> next();
  /// Whether the text was read up to its closing bracket, and nothing but space follows.
  [[nodiscard]] bool complete() const { return complete_; }

 private:
  void skip_space();
  [[nodiscard]] bool accept(char c);
  [[nodiscard]] std::string_view read_string();
  [[nodiscard]] std::string_view read_value();
  std::optional<JsonSlice> end();
  std::optional<JsonSlice> fail();

  std::string_view text_;
  std::size_t at_ = 0;
  char close_ = '\0';  ///< closing bracket; NUL: it is neither a list nor an object
  bool first_ = true;
  bool ended_ = false;
  bool complete_ = false;
};

/// Parse the answer to GET /containers/json or /libpod/containers/json.
/// @return nothing if it is not a complete list or has more than 4096 elements
[[nodiscard]] std::optional<std::vector<ContainerFacts>> parse_container_list(
    std::string_view text);

/// Parse podman's containers.json. @return id, name and image of the containers that have a name
[[nodiscard]] std::vector<ContainerFacts> parse_stored_containers(std::string_view text);

/// The id of the container that a container of this name replaces. Compose makes a new container
/// while the old one exists and names it "ID_NAME" until the old one is removed; ID is a prefix of
/// the old one's id. @return ID; "" for other names
/// Source: compose's convergence.go, recreateContainer
[[nodiscard]] std::string id_to_replace(std::string_view name);

/// Parse a line of GET /events, or of podman's events.log. @return nothing if it is not an event of
/// a container
[[nodiscard]] std::optional<ContainerEvent> parse_container_event(std::string_view text);

}  // namespace portfwd
