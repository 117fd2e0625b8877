#include "state/container_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include "base/text.h"

namespace portfwd {

namespace {

constexpr std::size_t kMostBytes = 1024;  ///< of a set of labels; a path fits in it

/// Labels that together distinguish one container of a tool from its others. The first must be
/// there.
constexpr std::array<std::string_view, 4> kCompose{
    "com.docker.compose.service", "com.docker.compose.project",
    "com.docker.compose.container-number", "com.docker.compose.oneoff"};
constexpr std::array<std::string_view, 2> kPodmanCompose{"io.podman.compose.service",
                                                         "io.podman.compose.project"};
constexpr std::array<std::string_view, 2> kDevContainer{"devcontainer.local_folder",
                                                        "devcontainer.config_file"};
constexpr std::array<std::span<const std::string_view>, 3> kTools{kCompose, kPodmanCompose,
                                                                  kDevContainer};

/// As "{LABEL=VALUE, ...}"; "" when the first of the labels is missing.
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

namespace {

constexpr std::uint64_t kAddresses = 254 * 256 * 254;

/// The addresses in order, from 127.1.0.1 to 127.254.255.254.
IpAddress address_at(std::uint64_t place) {
  place %= kAddresses;
  return IpAddress::v4(127, static_cast<std::uint8_t>(1 + place / (256 * 254)),
                       static_cast<std::uint8_t>(place / 254 % 256),
                       static_cast<std::uint8_t>(1 + place % 254));
}

bool may_be_given(const IpAddress& address) {
  if (address.family() != Family::V4) return false;
  const std::uint8_t* bytes = address.data();
  const auto inner = [](std::uint8_t byte) { return byte != 0 && byte != 255; };
  return bytes[0] == 127 && inner(bytes[1]) && inner(bytes[3]);
}

}  // namespace

ContainerAddresses::Assignment ContainerAddresses::address_of(const std::string& container) {
  if (const IpAddress* known = addresses_.find(container)) {
    const IpAddress address = *known;
    (void)addresses_.put(container, address);
    return {address, false};
  }
  std::uint64_t place = fnv1a(container);
  while (taken(address_at(place))) ++place;  // ends: there are far more addresses than kKept
  (void)addresses_.put(container, address_at(place));
  return {address_at(place), true};
}

bool ContainerAddresses::taken(const IpAddress& address) const {
  return std::ranges::any_of(addresses_.entries(),
                             [&](const auto& entry) { return entry.second == address; });
}

std::vector<ContainerAddress> ContainerAddresses::all() const {
  std::vector<ContainerAddress> out;
  for (const auto& [container, address] : addresses_.entries()) out.push_back({container, address});
  return out;
}

void ContainerAddresses::restore(const std::vector<ContainerAddress>& addresses) {
  for (const auto& [container, address] : addresses) {
    if (may_be_given(address) && !taken(address)) (void)addresses_.put(container, address);
  }
}

}  // namespace portfwd
