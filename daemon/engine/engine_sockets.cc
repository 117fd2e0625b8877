// See engine_sockets.h. Sources: docker(1), podman(1), podman-system-service(1).

#include "engine/engine_sockets.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/json_reader.h"
#include "base/small_file.h"

namespace portfwd {

namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

/// The parsed file; null if it cannot be read.
Json json_of(const fs::path& file) {
  const auto text = read_small_file(file.string());
  return text ? parse_json(*text) : Json();
}

/// The meta.json of a context; null if there is none. Each context has a folder, named by a digest
/// of the context's name.
Json description_of(const std::string& context, const fs::path& folder) {
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, none)) {
    Json described = json_of(entry.path() / "meta.json");
    if (text_in(described, "Name") == context) return described;
  }
  return {};
}

}  // namespace

std::optional<DockerContext> current_docker_context(const std::string& folder, std::string chosen) {
  const fs::path at(folder);
  if (chosen.empty()) chosen = text_in(json_of(at / "config.json"), "currentContext");
  if (chosen.empty() || chosen == "default") return std::nullopt;
  const Json described = description_of(chosen, at / "contexts/meta");
  std::string host = text_in(member(member(described, "Endpoints"), "docker"), "Host");
  if (host.empty()) return std::nullopt;
  return DockerContext{std::move(chosen), std::move(host)};
}

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// The default graph root is DIR/containers/storage. Source: containers-storage.conf(5)
std::string default_data_dir() {
  if (::geteuid() == 0) return "/var/lib";
  if (std::string data_home = variable("XDG_DATA_HOME"); !data_home.empty()) return data_home;
  return variable("HOME") + "/.local/share";
}

void add(std::vector<std::string>& sockets, std::string path) {
  if (std::ranges::find(sockets, path) == sockets.end()) sockets.push_back(std::move(path));
}

/// The path in "unix:///run/docker.sock", or a bare path, which podman accepts; "" for other
/// addresses.
std::string socket_path(std::string_view address) {
  if (address.starts_with("unix://")) address.remove_prefix(7);
  return address.starts_with('/') ? std::string(address) : std::string();
}

}  // namespace

std::string_view name_of(EngineKind kind) {
  return kind == EngineKind::Podman ? "podman" : "docker";
}

EngineEnvironment EngineEnvironment::of_this_process() {
  std::string docker_config = variable("DOCKER_CONFIG");
  if (docker_config.empty()) docker_config = variable("HOME") + "/.docker";
  return {variable("DOCKER_HOST"), variable("CONTAINER_HOST"), variable("XDG_RUNTIME_DIR"),
          default_data_dir(), current_docker_context(docker_config, variable("DOCKER_CONTEXT"))};
}

PodmanFiles podman_files(const EngineEnvironment& environment) {
  return {environment.runtime_dir + "/libpod/tmp/events/events.log",
          environment.data_dir + "/containers/storage"};
}

EngineSockets engine_sockets(const EngineEnvironment& environment) {
  EngineSockets out;
  const auto add_named = [&](EngineKind kind, const std::string& name, const std::string& address) {
    if (address.empty()) return;
    auto& sockets = kind == EngineKind::Podman ? out.podman : out.docker;
    std::string path = socket_path(address);
    if (path.empty()) {
      out.elsewhere.push_back({kind, name, address});
    } else {
      add(sockets, std::move(path));
    }
  };
  add_named(EngineKind::Podman, "CONTAINER_HOST", environment.container_host);
  add_named(EngineKind::Docker, "DOCKER_HOST", environment.docker_host);
  if (const auto& context = environment.docker_context;
      context && environment.docker_host.empty()) {
    add_named(EngineKind::Docker, "docker's context " + context->name, context->host);
  }
  if (!environment.runtime_dir.empty()) {
    add(out.podman, environment.runtime_dir + "/podman/podman.sock");
    add(out.docker, environment.runtime_dir + "/docker.sock");
  }
  add(out.podman, "/run/podman/podman.sock");
  add(out.docker, "/run/docker.sock");
  return out;
}

}  // namespace portfwd
