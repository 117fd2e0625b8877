#include "policy/forward_groups.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernel/netns.h"

namespace portfwd {

namespace {

/// Whether its processes are in the cgroup of `outer`.
bool in_cgroup_of(const Container& container, const Container& outer) {
  if (container.cgroup_id != 0 && container.cgroup_id == outer.cgroup_id) return true;
  if (outer.cgroup.empty()) return false;
  return container.cgroup == outer.cgroup || container.cgroup.starts_with(outer.cgroup + "/");
}

std::string group_of_engine(const Container& container) {
  return fmt::format("engine {}", container.engine_id);
}

}  // namespace

std::string group_of(const Container& container, std::span<const Container* const> engines) {
  if (!container.engine_id.empty()) return group_of_engine(container);
  const auto outer = std::ranges::find_if(
      engines, [&](const Container* other) { return in_cgroup_of(container, *other); });
  if (outer != engines.end()) return group_of_engine(**outer);
  const auto gate = container.netns_fd.valid() ? gate_of(container.netns_fd.get())
                                               : Result<Gate>(fail("no namespace", ENOENT));
  if (gate && gate->userns.valid()) return fmt::format("user namespace {}", gate->inode);
  return fmt::format("container {}", container.id);
}

}  // namespace portfwd
