#include "devcontainer/workspace.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

namespace portfwd::devcontainer {

namespace {

/// The value of a variable: "localEnv:NAME" or "localEnv:NAME:DEFAULT", the text between "${" and
/// "}". @return nothing for other variables
std::optional<std::string> value_of_variable(std::string_view variable,
                                             const Environment& environment) {
  for (const std::string_view kind : {"localEnv:", "env:"}) {
    if (!variable.starts_with(kind)) continue;
    variable.remove_prefix(kind.size());
    const auto colon = variable.find(':');
    auto value = environment ? environment(std::string(variable.substr(0, colon))) : std::nullopt;
    if (value) return value;
    return std::string(colon == variable.npos ? "" : variable.substr(colon + 1));
  }
  return std::nullopt;
}

}  // namespace

std::string substituted(std::string_view text, const Environment& environment) {
  std::string out;
  for (auto begin = text.find("${"); begin != text.npos; begin = text.find("${")) {
    const auto end = text.find('}', begin);
    if (end == text.npos) break;
    const auto value = value_of_variable(text.substr(begin + 2, end - begin - 2), environment);
    out += text.substr(0, begin);
    out += value ? *value : text.substr(begin, end + 1 - begin);
    text.remove_prefix(end + 1);
  }
  out += text;
  return out;
}

std::optional<std::string> local_environment(const std::string& name) {
  const char* value = ::getenv(name.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

namespace {

std::string_view file_name(std::string_view path) {
  return path.substr(path.rfind('/') + 1);
}

/// Whether the path has the one accepted spelling: no "..", no "//", no slash at the end.
bool is_plain_absolute(std::string_view path) {
  return path.starts_with('/') && !path.ends_with('/') && !path.contains("//") &&
         !(std::string(path) + "/").contains("/../") && !path.contains('\0');
}

bool is_kernels(std::string_view path) {
  static constexpr std::array<std::string_view, 3> kFolders{"/proc", "/sys", "/dev"};
  return std::ranges::any_of(kFolders, [path](std::string_view folder) {
    return path == folder || (path.starts_with(folder) && path[folder.size()] == '/');
  });
}

std::string label(const std::map<std::string, std::string>& labels, const std::string& key) {
  const auto found = labels.find(key);
  if (found == labels.end()) return "";
  std::string_view path = found->second;
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  return is_plain_absolute(path) && !is_kernels(path) ? std::string(path) : "";
}

}  // namespace

std::vector<ConfigPlace> config_places(const std::map<std::string, std::string>& labels) {
  std::vector<ConfigPlace> places;
  const std::string folder = label(labels, "devcontainer.local_folder");
  const std::string file = label(labels, "devcontainer.config_file");
  if (file_name(file) == "devcontainer.json" || file_name(file) == ".devcontainer.json") {
    const bool below = !folder.empty() && file.starts_with(folder + "/");
    const std::size_t cut = below ? folder.size() : file.rfind('/');
    if (cut > 0) places.push_back({file.substr(0, cut), file.substr(cut + 1)});
  }
  if (!folder.empty()) {
    places.push_back({folder, ".devcontainer/devcontainer.json"});
    places.push_back({folder, ".devcontainer.json"});
  }
  return places;
}

std::string describe_read_failure(const ConfigPlace& place, const Error& error) {
  const auto say = [&](std::string_view why) {
    return fmt::format("cannot read {}: {}", place.text(), why);
  };
  switch (error.code) {
    case EXDEV:
      return say(
          fmt::format("a symbolic link leads out of {}; only links that stay below it are followed",
                      place.folder));
    case ELOOP:
      return say("the path leads through a link of /proc or a loop of links");
    case EINVAL:
      return say("it is not a regular file");
    case EACCES:
      return say("it belongs to another user, or this user has no permission");
    case EFBIG:
      return say("it is larger than 1 MiB");
    case ETIMEDOUT:
      return say("its file system did not answer");
    default:
      return say(error.text());
  }
}

}  // namespace portfwd::devcontainer
