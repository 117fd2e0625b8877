#include "api/container_info.h"

#include <utility>

#include "policy/policy.h"

namespace portfwd {

/// A container that can be entered and none of whose ports is wanted is ignored.
ContainerInfo info_of(const ContainerAccess& reach, const Settings& settings) {
  const Container& c = reach.container();
  ContainerInfo info{.id = c.id,
                     .name = c.name,
                     .engine = c.engine,
                     .uid = c.uid,
                     .pid = c.pid,
                     .netns = c.netns,
                     .image = c.image,
                     .pod = c.pod,
                     .project = c.project,
                     .service = c.service,
                     .labels = c.labels,
                     .published = c.published,
                     .state = reach.state(),
                     .reach = reach.kind(),
                     .reason = reach.reason(),
                     .listeners = reach.listeners(),
                     .ever_listened = reach.ever_listened(),
                     .attached = c.attached};
  for (Listener& listener : info.listeners) listener.command = {};  // up to 4 KiB; never told
  if (info.state != ContainerState::Watched) return info;
  if (std::string why = ignored_whole(settings, c); !why.empty()) {
    info.state = ContainerState::Ignored;
    info.reason = std::move(why);
  }
  return info;
}

}  // namespace portfwd
