#include "policy/container_wishes.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/log.h"
#include "policy/policy.h"
#include "state/container_memory.h"

namespace portfwd {

namespace {

using devcontainer::PortAttributes;
using devcontainer::PortMetadata;
using devcontainer::WantedPort;

constexpr const char* kSource = "the dev container's metadata";

Attributes from_metadata(const PortAttributes* said) {
  if (said == nullptr) return {};
  return {.on_auto_forward = said->on_auto_forward,
          .label = said->label,
          .scheme = said->scheme,
          .require_host_port = said->require_host_port,
          .elevate = said->elevate,
          .source = std::string(kSource) + " says onAutoForward = \"ignore\""};
}

bool have_common(const std::vector<std::string>& some, const std::vector<std::string>& others) {
  return std::ranges::find_first_of(some, others) != some.end();
}

}  // namespace

const PortMetadata& MetadataPolicy::Known::metadata() const {
  static const PortMetadata nothing;
  return said ? *said : nothing;
}

bool MetadataPolicy::update(const Container& container) {
  const auto before = declared();
  if (!container.labels.empty() || container.metadata) {
    const std::vector<std::string> names = lasting_names(container);
    std::erase_if(known_, [&](const auto& entry) {
      return entry.second.gone && have_common(entry.second.names, names);
    });
  }
  Known& known = known_[container.id];
  const bool read_before =
      known.labels == container.labels && known.said == container.metadata && !known.name.empty();
  known.name = container.name;
  known.project = container.project;
  known.service = container.service;
  known.names = lasting_names(container);
  known.published = container.published;
  if (!read_before) {
    known.labels = container.labels;
    known.said = container.metadata;
    known.matched.known.clear();
    for (const std::string& complaint : known.metadata().complaints) {
      log::write(log::Level::Warning,
                 fmt::format("the dev container metadata of {}: {}", container.name, complaint),
                 {{"PORTFWD_CONTAINER", container.name}});
    }
  }
  return declared() != before;
}

std::vector<std::string> MetadataPolicy::predecessors(const Container& container) const {
  const std::vector<std::string> names = lasting_names(container);
  std::vector<std::string> out;
  for (const auto& [id, known] : known_) {
    if (known.gone && have_common(known.names, names)) out.push_back(known.name);
  }
  return out;
}

void MetadataPolicy::gone(const Container& container, TimePoint now) {
  const auto known = known_.find(container.id);
  if (known == known_.end()) return;
  known->second.gone = now;
  if (known->second.metadata().wanted.empty() && known->second.service.empty()) known_.erase(known);
}

std::optional<TimePoint> MetadataPolicy::forget_at() const {
  std::optional<TimePoint> next;
  for (const auto& [id, known] : known_) {
    if (known.gone) next = std::min(next.value_or(TimePoint::max()), *known.gone + kReplacement);
  }
  return next;
}

bool MetadataPolicy::forget(TimePoint now) {
  const auto before = declared();
  std::erase_if(known_, [&](const auto& entry) {
    return entry.second.gone && *entry.second.gone + kReplacement <= now;
  });
  return declared() != before;
}

const MetadataPolicy::Known* MetadataPolicy::service_of(const Known& of,
                                                        const std::string& service) const {
  if (service.empty() || service == of.service) return &of;
  if (of.project.empty()) return nullptr;
  const auto found = std::ranges::find_if(known_, [&](const auto& entry) {
    return entry.second.project == of.project && entry.second.service == service;
  });
  return found == known_.end() ? nullptr : &found->second;
}

std::vector<DeclaredForward> MetadataPolicy::declared() const {
  std::vector<DeclaredForward> out;
  std::set<std::pair<std::string, Target>> there;
  for (const auto& [id, known] : known_) {
    for (const WantedPort& wanted : known.metadata().wanted) {
      const Target target{Protocol::Tcp, wanted.port};
      const Known* meant = service_of(known, wanted.service);
      if (meant == nullptr || published_on_loopback(meant->published, target)) continue;
      if (wanted.by_engine && known.gone) continue;
      if (!there.emplace(meant->name, target).second) continue;
      DeclaredForward forward;
      forward.container = meant->name;
      forward.target = target;
      forward.host_port = wanted.host_port;
      forward.by_container = true;
      forward.place.file = fmt::format("the dev container metadata of {}", known.name);
      const bool own = meant == &known;
      const auto* attributes = devcontainer::attributes_for(
          known.metadata(), own ? known.service : wanted.service, own, wanted.port, "");
      if (attributes != nullptr) forward.label = attributes->label;
      out.push_back(std::move(forward));
    }
  }
  return out;
}

/// The attributes from its own metadata, else from that of another container of its compose project
/// for its service.
const PortAttributes* MetadataPolicy::find(const Container& container, Port port,
                                           const std::string& command) const {
  const auto self = known_.find(container.id);
  if (self == known_.end()) return nullptr;
  const Known& known = self->second;
  const auto* own = find_own(known, port, command);
  if (own != nullptr || known.project.empty() || known.service.empty()) return own;
  for (const auto& [id, other] : known_) {
    if (id == container.id || other.project != known.project) continue;
    const auto* said =
        devcontainer::attributes_for(other.metadata(), known.service, false, port, command);
    if (said != nullptr) return said;
  }
  return nullptr;
}

const PortAttributes* MetadataPolicy::find_own(const Known& known, Port port,
                                               const std::string& command) const {
  const PortMetadata& metadata = known.metadata();
  if (command.empty() || !devcontainer::depends_on_command(metadata, port)) {
    return devcontainer::attributes_for(metadata, known.service, true, port, "");
  }
  Matched& matched = known.matched;
  if (const auto* before = matched.known.find(command)) return *before;
  const TimePoint now = clock_.now();
  const double passed = std::chrono::duration<double>(now - matched.at).count();
  matched.steps = std::min(matched.steps + passed * Matched::kStepsASecond, Matched::kMostSteps);
  matched.at = now;
  const auto steps = static_cast<double>(devcontainer::steps_to_match(metadata, command));
  const bool allowed = steps <= matched.steps;
  const auto* found =
      devcontainer::attributes_for(metadata, known.service, true, port, allowed ? command : "");
  if (!allowed) return found;
  matched.steps -= steps;
  matched.known.put(command, found);
  return found;
}

Attributes MetadataPolicy::attributes(const Container& container) {
  const auto label = container.labels.find("portfwd");
  if (label == container.labels.end() || label->second != "off") return {};
  return {.on_auto_forward = "ignore", .source = "the container's label portfwd=off excludes it"};
}

Attributes MetadataPolicy::attributes(const Container& container, const Listener& listener) const {
  if (Attributes whole = attributes(container); whole.on_auto_forward) return whole;
  if (listener.opted_out) {
    return {.on_auto_forward = "ignore",
            .source = "PORTFWD=off in its program's environment excludes it"};
  }
  const Target target = listener.target();
  if (target.port() == nullptr) return {};  // dev container metadata is about ports only
  const Port port = target.port_number();
  Attributes out = from_metadata(find(container, port, listener.command));
  const auto known = known_.find(container.id);
  out.unmatched = known != known_.end() && listener.command.empty() &&
                  devcontainer::depends_on_command(known->second.metadata(), port);
  return out;
}

}  // namespace portfwd
