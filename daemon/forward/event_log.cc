#include "forward/event_log.h"

#include <algorithm>
#include <cassert>
#include <ranges>

#include "forward/packed_event.h"

namespace portfwd {

Event EventLog::append(Event event) {
  event.seq = next_++;
  const std::size_t before = bytes_.size();
  pack(event, bytes_);
  sizes_.push_back(static_cast<std::uint32_t>(bytes_.size() - before));
  if (sizes_.size() > kKept) forget_oldest();
  return event;
}

/// What is left moves to the front when it is the smaller half.
void EventLog::forget_oldest() {
  forgotten_ += sizes_.front();
  sizes_.pop_front();
  if (forgotten_ <= bytes_.size() / 2) return;
  bytes_.erase(0, forgotten_);
  forgotten_ = 0;
}

std::vector<Event> EventLog::after(std::uint64_t seq) const {
  std::vector<Event> out;
  if (sizes_.empty() || seq >= last()) return out;
  out.reserve(std::min<std::uint64_t>(last() - seq, sizes_.size()) + 1);
  std::size_t at = forgotten_;
  std::uint64_t number = oldest();
  if (seq + 1 < number) {
    Event gap;
    gap.type = Event::Type::Gap;
    gap.seq = number - 1;  // the last of the forgotten ones
    gap.time = unpack(std::string_view(bytes_).substr(at, sizes_.front())).time;
    gap.reason = "older events are forgotten";
    out.push_back(std::move(gap));
  }
  for (const std::uint32_t size : sizes_) {
    if (number++ > seq) out.push_back(unpack(std::string_view(bytes_).substr(at, size)));
    at += size;
  }
  return out;
}

std::optional<Event> EventLog::last_removal(std::string_view container,
                                            const Target& target) const {
  std::size_t at = bytes_.size();
  for (const std::uint32_t size : sizes_ | std::views::reverse) {
    at -= size;
    Event event = unpack(std::string_view(bytes_).substr(at, size));
    const auto* f = std::get_if<ForwardInfo>(&event.subject);
    if (event.type != Event::Type::PortRemoved || f == nullptr) continue;
    const bool meant =
        container.empty() || f->container_id == container || f->container_name == container;
    if (meant && Target{f->protocol, f->container_port} == target) return event;
  }
  return std::nullopt;
}

std::optional<ContainerInfo> EventLog::detached(std::string_view container_id) const {
  std::size_t at = bytes_.size();
  for (const std::uint32_t size : sizes_ | std::views::reverse) {
    at -= size;
    Event event = unpack(std::string_view(bytes_).substr(at, size));
    auto* c = std::get_if<ContainerInfo>(&event.subject);
    if (event.type != Event::Type::ContainerRemoved || c == nullptr) continue;
    if (c->id != container_id) continue;
    return event.reason == "detached" ? std::optional(std::move(*c)) : std::nullopt;
  }
  return std::nullopt;
}

}  // namespace portfwd
