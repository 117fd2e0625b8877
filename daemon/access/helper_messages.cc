#include "access/helper_messages.h"

#include <fmt/format.h>

#include "base/json_reader.h"
#include "discover/names.h"

namespace portfwd::helper {

namespace {

using Json = nlohmann::json;

constexpr std::string_view kVersion = "/v1.40";
constexpr const char* kProgram = "/portfwd-broker";  // inside
constexpr const char* kSocket = "/portfwd.sock";
constexpr const char* kMark = "portfwd.helper";
constexpr const char* kFolder = "portfwd.folder";
constexpr const char* kLife = "portfwd.life";
constexpr std::size_t kLongestMessage = 300;

/// Throws nothing: what is no UTF-8 is replaced.
std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json bind_mount(const std::string& source, const char* target, bool read_only) {
  return {{"Type", "bind"}, {"Source", source}, {"Target", target}, {"ReadOnly", read_only}};
}

std::string percent_encoded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (plain) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

std::string container_path(std::string_view id, std::string_view rest) {
  return fmt::format("{}/containers/{}{}", kVersion, percent_encoded(id), rest);
}

}  // namespace

/// label=disable: SELinux would keep a confined container from the socket; elsewhere no effect.
std::string creation(const Spec& spec) {
  const Json host{
      {"NetworkMode", "container:" + spec.container_id},
      {"AutoRemove", true},
      {"ReadonlyRootfs", true},
      {"CapDrop", Json::array({"ALL"})},
      {"SecurityOpt", Json::array({"no-new-privileges", "label=disable"})},
      {"LogConfig", {{"Type", "none"}}},
      {"Mounts", Json::array({bind_mount(spec.program, kProgram, true),
                              bind_mount(spec.socket, kSocket, false)})},
  };
  return text_of({{"Image", spec.image_id},
                  {"Entrypoint", Json::array({kProgram})},
                  {"Cmd", Json::array({kSocket})},
                  {"User", fmt::format("{}:{}", spec.uid, spec.gid)},
                  {"WorkingDir", "/"},
                  {"Healthcheck", {{"Test", Json::array({"NONE"})}}},
                  {"Labels", {{kMark, "1"}, {kFolder, spec.folder}, {kLife, spec.life}}},
                  {"HostConfig", host}});
}

std::string inspect_path(std::string_view container_id) {
  return container_path(container_id, "/json");
}

std::string create_path() {
  return fmt::format("{}/containers/create", kVersion);
}

std::string start_path(std::string_view id) {
  return container_path(id, "/start");
}

std::string remove_path(std::string_view id) {
  return container_path(id, "?force=1&v=1");
}

std::string list_path(std::string_view folder) {
  const Json filters{
      {"label", Json::array({fmt::format("{}=1", kMark), fmt::format("{}={}", kFolder, folder)})}};
  return fmt::format("{}/containers/json?all=1&filters={}", kVersion,
                     percent_encoded(text_of(filters)));
}

std::string image_of(std::string_view inspected) {
  return text_in(parse_json(inspected), "Image");
}

std::string id_of(std::string_view created) {
  return text_in(parse_json(created), "Id");
}

std::string message_of(std::string_view failure) {
  return names::printable(text_in(parse_json(failure), "message"), kLongestMessage);
}

std::vector<std::string> ids_of(std::string_view list, std::string_view but_of_life) {
  std::vector<std::string> ids;
  const Json all = parse_json(list);
  if (!all.is_array()) return ids;
  for (const Json& container : all) {
    if (text_in(member(container, "Labels"), kLife) == but_of_life) continue;
    if (std::string id = text_in(container, "Id"); names::is_hex_id(id)) ids.push_back(id);
  }
  return ids;
}

}  // namespace portfwd::helper
