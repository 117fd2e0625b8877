// Engines' answers as values. Pure, for any bytes at all: what is missing or of another type is
// left out, what is no JSON gives nothing. One parser reads Docker's API and podman's own, whose
// keys don't collide. Sources: docs.docker.com/reference/api/engine,
// docs.podman.io/en/latest/_static/api.html.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "engine/container_facts.h"

namespace portfwd {

/// GET /containers/json, /libpod/containers/json. @return nothing when it is no list
[[nodiscard]] std::optional<std::vector<ContainerFacts>> parse_container_list(
    std::string_view text);

/// podman's containers.json: ids and names alone, of those that have both.
[[nodiscard]] std::vector<ContainerFacts> parse_stored_containers(std::string_view text);

/// Compose makes a new container beside the old one that it replaces, and calls it "ID_NAME" until
/// the old one, whose id begins so, has gone. @return that beginning; "" of every other name.
/// Source: compose's convergence.go, recreateContainer.
[[nodiscard]] std::string id_to_replace(std::string_view name);

/// A line of GET /events, or of podman's own file of events. @return nothing when it is of no
/// container
[[nodiscard]] std::optional<ContainerEvent> parse_container_event(std::string_view text);

}  // namespace portfwd
