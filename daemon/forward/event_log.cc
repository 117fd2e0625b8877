#include "forward/event_log.h"

#include <algorithm>
#include <cassert>
#include <ranges>

namespace portfwd {

const Event& EventLog::append(Event event) {
  event.seq = next_++;
  assert(events_.empty() || events_.back().seq + 1 == event.seq);
  events_.push_back(std::move(event));
  if (events_.size() > kKept) events_.pop_front();
  return events_.back();
}

std::vector<Event> EventLog::after(std::uint64_t seq) const {
  std::vector<Event> out;
  if (events_.empty()) return out;
  if (const Event& oldest = events_.front(); seq + 1 < oldest.seq) {
    Event gap;
    gap.type = Event::Type::Gap;
    gap.seq = oldest.seq - 1;  // the last of the forgotten ones
    gap.time = oldest.time;
    gap.reason = "older events are forgotten";
    out.push_back(std::move(gap));
  }
  std::ranges::copy_if(events_, std::back_inserter(out),
                       [&](const Event& e) { return e.seq > seq; });
  return out;
}

const Event* EventLog::last_removal(std::string_view container, Target target) const {
  for (const Event& event : events_ | std::views::reverse) {
    const auto* f = std::get_if<ForwardInfo>(&event.subject);
    if (event.type != Event::Type::PortRemoved || f == nullptr) continue;
    const bool meant =
        container.empty() || f->container_id == container || f->container_name == container;
    if (meant && Target{f->protocol, f->container_port} == target) return &event;
  }
  return nullptr;
}

}  // namespace portfwd
