#include "engine/docker_context.h"

#include <filesystem>

#include "base/json_reader.h"
#include "base/small_file.h"

namespace portfwd {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

/// Of no type when there is none.
Json json_of(const fs::path& file) {
  const auto text = read_small_file(file.string());
  return text ? parse_json(*text) : Json();
}

/// Each context has a folder, whose name is a digest of the context's.
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

}  // namespace portfwd
