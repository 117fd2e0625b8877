#include "state/lasting_names.h"

#include <fmt/format.h>

#include <array>
#include <span>
#include <string_view>

namespace portfwd {

namespace {

constexpr std::size_t kMostBytes = 1024;  ///< of what is remembered; a path has its place in it

/// Labels that together tell one container of a tool from its others. The first one must be there.
constexpr std::array<std::string_view, 4> kCompose{
    "com.docker.compose.service", "com.docker.compose.project",
    "com.docker.compose.container-number", "com.docker.compose.oneoff"};
constexpr std::array<std::string_view, 2> kPodmanCompose{"io.podman.compose.service",
                                                         "io.podman.compose.project"};
constexpr std::array<std::string_view, 2> kDevContainer{"devcontainer.local_folder",
                                                        "devcontainer.config_file"};
constexpr std::array<std::span<const std::string_view>, 3> kTools{kCompose, kPodmanCompose,
                                                                  kDevContainer};

/// "" when the first of the labels is not there.
std::string label_set(const Container& container, std::span<const std::string_view> names) {
  std::string text;
  for (const std::string_view name : names) {
    const auto label = container.labels.find(std::string(name));
    if (label != container.labels.end()) {
      text += fmt::format("{}{}={}", text.empty() ? "{" : ", ", name, label->second);
    } else if (text.empty()) {
      return "";
    }
  }
  return text + "}";
}

}  // namespace

std::vector<std::string> lasting_names(const Container& container) {
  std::vector<std::string> names;
  for (const auto& labels : kTools) {
    std::string known = label_set(container, labels);
    if (known.empty() || known.size() > kMostBytes) continue;
    names.push_back(std::move(known));
    break;
  }
  names.push_back(container.name);
  return names;
}

}  // namespace portfwd
