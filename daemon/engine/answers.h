// Answers of engines as values. Pure, for any bytes: a member that is missing or of another type is
// left out, and text that is not JSON gives nothing. One parser reads Docker's API and podman's
// own, whose keys do not collide. Sources: docs.docker.com/reference/api/engine,
// docs.podman.io/en/latest/_static/api.html.
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

/// Ports that the engine itself forwards (`-p`): a range of `count` that begins with these two.
struct PublishedPorts {
  Protocol protocol = Protocol::Tcp;
  std::string host_address;  ///< numeric; "" for all of the host's
  Port host_port = 0;
  Port container_port = 0;
  unsigned count = 1;  ///< neither range goes beyond 65535

  friend auto operator<=>(const PublishedPorts&, const PublishedPorts&) = default;
};

// Limits of a container's labels: those that portfwd itself reads are kept first, then the others
// in their order. A label that is longer, or for which there is no room, is left out.
constexpr std::size_t kMostLabels = 64;
constexpr std::size_t kLongestLabel = 4096;          ///< bytes of a name, or of a value
constexpr std::size_t kMostLabelBytes = 64UL << 10;  ///< of all, but for kMetadataLabel
constexpr const char* kMetadataLabel = "devcontainer.metadata";
constexpr std::size_t kLongestMetadata = 256UL << 10;

/// What an engine reports of one of its containers, as the engine, or whoever made the container,
/// wrote it: of limited length, any characters.
struct ContainerFacts {
  std::string id;  ///< never empty
  std::string name;
  std::string image;         ///< as the user wrote it
  std::string image_id;      ///< a digest
  std::string state;         ///< "running", "created", "paused", ...
  std::string pod;           ///< the name of podman's pod
  std::string project;       ///< compose's
  std::string service;       ///< compose's
  std::string network_mode;  ///< Docker's: "host", "bridge", "container:ID", ...; else ""
  pid_t pid = 0;             ///< on the host; 0: not reported
  bool infra = false;        ///< it only holds the namespaces of a pod
  std::map<std::string, std::string> labels;
  std::vector<PublishedPorts> published;
  std::vector<IpAddress> addresses;  ///< Docker's: its own, in its networks
  /// From the devcontainer.json of the folder that its labels name; null: they name none. Not from
  /// the engine, but applied with its facts (discover/engine_facts.h).
  std::shared_ptr<const devcontainer::PortMetadata> workspace;
};

/// What has happened to a container.
struct ContainerEvent {
  std::string id;
  std::string action;  ///< "start", "died", "rename", ...
  std::string name;    ///< after the event
  /// The beginning of the id of the container that it is about to replace, as compose names it when
  /// it recreates a container; else "".
  std::string replaces{};
};

/// One member of a JsonSlices.
struct JsonSlice {
  std::string_view key;    ///< of a member, between its quotes as written; "" in a list
  std::string_view value;  ///< as written, not checked
};

// The members of a JSON list or object as texts, found by brackets and strings alone. No tree is
// built and the inside of a member is not checked, so that of an answer of megabytes only the parts
// that matter are parsed. For texts that are too large for base/json_reader.h. Pure.
class JsonSlices {
 public:
  /// @param text outlives this and what it gives
  explicit JsonSlices(std::string_view text);

  [[nodiscard]] bool is_list() const { return close_ == ']'; }
  [[nodiscard]] bool is_object() const { return close_ == '}'; }
  /// @return nothing at the end, and where the text is malformed
  std::optional<JsonSlice> next();
  /// Whether it was read up to its closing bracket, and nothing follows.
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
  char close_ = '\0';  ///< NUL when it is neither a list nor an object
  bool first_ = true;
  bool over_ = false;
  bool complete_ = false;
};

/// GET /containers/json, /libpod/containers/json. @return nothing when it is no list
[[nodiscard]] std::optional<std::vector<ContainerFacts>> parse_container_list(
    std::string_view text);

/// podman's containers.json: ids and names alone, of containers that have both.
[[nodiscard]] std::vector<ContainerFacts> parse_stored_containers(std::string_view text);

/// Compose makes a new container beside the one that it replaces, and calls it "ID_NAME" until the
/// old one, whose id begins with ID, is removed. @return ID; "" for every other name.
/// Source: compose's convergence.go, recreateContainer.
[[nodiscard]] std::string id_to_replace(std::string_view name);

/// A line of GET /events, or of podman's own file of events. @return nothing when it is not about a
/// container
[[nodiscard]] std::optional<ContainerEvent> parse_container_event(std::string_view text);

}  // namespace portfwd
