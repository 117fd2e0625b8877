#include "forward/event_log.h"

#include <algorithm>

namespace portfwd {

const Event& EventLog::append(Event event) {
  event.seq = next_++;
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

}  // namespace portfwd
