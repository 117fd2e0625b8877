#include "forward/events.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <ranges>
#include <tuple>
#include <type_traits>
#include <utility>

#include "base/log.h"
#include "base/text.h"

namespace portfwd {

void EventLog::resume(std::uint64_t next, WallTime now) {
  assert(next >= 1 && next_ == 1 && sizes_.empty());
  next_ = next;
  resumed_ = now;
}

Event EventLog::append(Event event) {
  event.seq = next_++;
  const std::size_t before = bytes_.size();
  pack(event, bytes_);
  sizes_.push_back(static_cast<std::uint32_t>(bytes_.size() - before));
  if (sizes_.size() > kKept) forget_oldest();
  return event;
}

/// Compacts the buffer when more than half of it is unused.
void EventLog::forget_oldest() {
  unused_bytes_ += sizes_.front();
  sizes_.pop_front();
  if (unused_bytes_ <= bytes_.size() / 2) return;
  bytes_.erase(0, unused_bytes_);
  unused_bytes_ = 0;
}

std::vector<Event> EventLog::after(std::uint64_t seq) const {
  std::vector<Event> out;
  if (seq >= last()) return out;
  out.reserve(std::min<std::uint64_t>(last() - seq, sizes_.size()) + 1);
  std::size_t at = unused_bytes_;
  std::uint64_t number = oldest();
  if (seq + 1 < number) {
    Event gap;
    gap.type = Event::Type::Gap;
    gap.seq = number - 1;  // the last one that is no longer kept
    gap.time = sizes_.empty() ? resumed_
                              : unpack(std::string_view(bytes_).substr(at, sizes_.front())).time;
    gap.reason = "older events are no longer kept";
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
  const std::string wanted = target.text();
  std::size_t at = bytes_.size();
  for (const std::uint32_t size : sizes_ | std::views::reverse) {
    at -= size;
    Event event = unpack(std::string_view(bytes_).substr(at, size));
    const auto* f = std::get_if<ForwardInfo>(&event.subject);
    if (event.type != Event::Type::PortRemoved || f == nullptr) continue;
    const bool meant =
        container.empty() || f->container_id == container || f->container_name == container;
    if (meant && f->target == wanted) return event;
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

void Notifier::emit(Event event) {
  event.time = clock_.wall();
  if (auto* container = std::get_if<ContainerInfo>(&event.subject)) {
    container->labels = {};
    container->listeners = {};
    container->published = {};
  }
  notify(&ControlObserver::on_event, log_.append(std::move(event)));
}

namespace {

/// All fields, in order. A field that is added to the struct breaks the build until it is named
/// here.
template <class Info>
auto fields_of_forward(Info& info) {
  auto& [id, container_id, container_name, container_engine, protocol, direction, target,
         container_address, container_port, host_addresses, host_port, host_path, container_path,
         socket_type, origin, state, pending, error, reason, remapped, label, process, url,
         on_auto_forward, since, counters] = info;
  return std::tie(id, container_id, container_name, container_engine, protocol, direction, target,
                  container_address, container_port, host_addresses, host_port, host_path,
                  container_path, socket_type, origin, state, pending, error, reason, remapped,
                  label, process, url, on_auto_forward, since, counters);
}

template <class Info>
auto fields_of_container(Info& info) {
  auto& [id, name, engine, uid, pid, netns, image, pod, project, service, labels, published, state,
         reach, reason, listeners, ever_listened, attached] = info;
  assert(labels.empty() && published.empty() && listeners.empty());
  return std::tie(id, name, engine, uid, pid, netns, image, pod, project, service, state, reach,
                  reason, ever_listened, attached);
}

template <class E>
auto fields_of_event(E& event) {
  auto& [seq, time, type, reason, subject, batch_size, batch_index] = event;
  return std::tie(seq, time, type, reason, batch_size, batch_index);
}

class Packer {
 public:
  explicit Packer(std::string& out) : out_(out) {}

  template <class Fields>
  void all(const Fields& fields) {
    std::apply([this](const auto&... each) { (this->add(each), ...); }, fields);
  }
  template <class T>
  void add(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    out_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void add(const std::string& text) {
    add(text.size());
    out_.append(text);
  }
  void add(const std::vector<std::string>& texts) {
    add(texts.size());
    for (const std::string& text : texts) add(text);
  }

 private:
  std::string& out_;
};

class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : rest_(bytes) {}

  template <class Fields>
  void all(const Fields& fields) {
    std::apply([this](auto&... each) { (this->read(each), ...); }, fields);
  }
  template <class T>
  void read(T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::memcpy(&value, next(sizeof value).data(), sizeof value);
  }
  void read(std::string& text) { text = next(read_size()); }
  void read(std::vector<std::string>& texts) {
    texts.resize(read_size());
    for (std::string& text : texts) read(text);
  }
  [[nodiscard]] bool done() const { return rest_.empty(); }

 private:
  std::size_t read_size() {
    std::size_t size = 0;
    read(size);
    return size;
  }
  std::string_view next(std::size_t size) {
    assert(size <= rest_.size());
    const std::string_view out = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return out;
  }

  std::string_view rest_;
};

}  // namespace

void pack(const Event& event, std::string& out) {
  Packer packer(out);
  packer.all(fields_of_event(event));
  packer.add(event.subject.index());
  if (const auto* forward = std::get_if<ForwardInfo>(&event.subject)) {
    packer.all(fields_of_forward(*forward));
  } else if (const auto* container = std::get_if<ContainerInfo>(&event.subject)) {
    packer.all(fields_of_container(*container));
  }
}

Event unpack(std::string_view bytes) {
  Unpacker unpacker(bytes);
  Event event;
  std::size_t kind = 0;
  unpacker.all(fields_of_event(event));
  unpacker.read(kind);
  const decltype(event.subject) forward(std::in_place_type<ForwardInfo>);
  const decltype(event.subject) container(std::in_place_type<ContainerInfo>);
  if (kind == forward.index()) {
    unpacker.all(fields_of_forward(event.subject.emplace<ForwardInfo>()));
  } else if (kind == container.index()) {
    unpacker.all(fields_of_container(event.subject.emplace<ContainerInfo>()));
  }
  assert(unpacker.done());
  return event;
}

namespace {

log::Fields fields_of(const ForwardInfo& f, std::string_view message_id) {
  return {{"MESSAGE_ID", std::string(message_id)},
          {"PORTFWD_CONTAINER", f.container_name},
          {"PORTFWD_CONTAINER_ID", f.container_id},
          {"PORTFWD_PORT", std::to_string(f.container_port)},
          {"PORTFWD_PROTOCOL", std::string(name_of(f.protocol))},
          {"PORTFWD_HOST_PORT", std::to_string(f.host_port)},
          {"PORTFWD_FORWARD", f.id},
          {"PORTFWD_PROCESS", f.process}};
}

log::Fields fields_of(const ContainerInfo& c, std::string_view message_id) {
  return {{"MESSAGE_ID", std::string(message_id)},
          {"PORTFWD_CONTAINER", c.name},
          {"PORTFWD_CONTAINER_ID", c.id},
          {"PORTFWD_ENGINE", c.engine}};
}

/// "port 8080", "socket /run/app.sock".
std::string subject_of(const ForwardInfo& f) {
  return f.container_path.empty() ? "port " + f.target : "socket " + printable(f.container_path);
}

/// Where it is on the host: an address with its port, or a path.
std::string host_place(const ForwardInfo& f) {
  if (!f.host_path.empty() || f.host_addresses.empty()) return f.host_path;
  return fmt::format("{}:{}", f.host_addresses.front(), f.host_port);
}

/// "web port 8080 is at 127.0.0.1:8080", "web port 5432 leads to 127.0.0.1:5432".
std::string sentence(const ForwardInfo& f, std::string_view in, std::string_view reverse) {
  return fmt::format("{} {} {} {}", f.container_name, subject_of(f),
                     f.direction == Direction::In ? in : reverse, host_place(f));
}

bool is_open_to_others(const ForwardInfo& f) {
  return f.direction == Direction::In &&
         std::ranges::any_of(f.host_addresses, [](const std::string& address) {
           return !IpAddress::parse(address).value_or(IpAddress()).is_loopback();
         });
}

void log_added(const ForwardInfo& f) {
  const auto id = f.remapped ? log::message_id::kPortRemapped : log::message_id::kPortAdded;
  const std::string why = f.remapped ? fmt::format(" ({})", f.reason) : "";
  log::write(log::Level::Notice, sentence(f, "is at", "leads to") + why, fields_of(f, id));
  if (is_open_to_others(f)) {
    log::write(log::Level::Warning,
               fmt::format("{}: other machines can connect to it, since allow_remote is set",
                           sentence(f, "is at", "leads to")),
               fields_of(f, log::message_id::kOpenToOthers));
  }
}

void log_removed(const ForwardInfo& f, std::string_view reason) {
  log::write(log::Level::Notice,
             fmt::format("{}: {}", sentence(f, "is no longer at", "no longer leads to"), reason),
             fields_of(f, log::message_id::kPortRemoved));
}

std::string remedy_of_conflict(const ForwardInfo& f) {
  if (const auto remedies = remedies_of(f); !remedies.empty()) return remedy_sentence(remedies);
  return f.direction == Direction::In
             ? "free the port, or widen [host] fallback_range"
             : "free the port inside: the forward is retried every few seconds";
}

void log_container(const ContainerInfo& c, bool added, std::string_view reason) {
  const auto id = added ? log::message_id::kContainerAdded : log::message_id::kContainerRemoved;
  const std::string why = reason.empty() ? "" : fmt::format(": {}", reason);
  log::write(log::Level::Info,
             fmt::format("container {} {}{}", c.name, added ? "found" : "gone", why),
             fields_of(c, id));
}

}  // namespace

/// Logs conflicts alone: no event is emitted for a forward without a host port.
void Journal::on_forward_changed(const ForwardInfo& f) {
  if (f.state != ForwardState::Conflict || f.pending) return;
  log::write(log::Level::Warning,
             fmt::format("{} {} is not forwarded: {}; {}", f.container_name, subject_of(f),
                         f.reason, remedy_of_conflict(f)),
             fields_of(f, log::message_id::kPortConflict));
}

void Journal::on_limit(const Container& container, unsigned limit) {
  log::write(log::Level::Warning,
             fmt::format("{} has more open ports than max_forwards = {}: the others are not "
                         "forwarded; raise [host] max_forwards, or forward them manually",
                         container.name, limit),
             {{"MESSAGE_ID", std::string(log::message_id::kLimitReached)},
              {"PORTFWD_CONTAINER", container.name}});
}

void Journal::on_event(const Event& event) {
  const auto* forward = std::get_if<ForwardInfo>(&event.subject);
  const auto* container = std::get_if<ContainerInfo>(&event.subject);
  switch (event.type) {
    case Event::Type::PortAdded:
      return log_added(*forward);
    case Event::Type::PortRemoved:
      return log_removed(*forward, event.reason);
    case Event::Type::ContainerAdded:
      return log_container(*container, true, container->reason);
    case Event::Type::ContainerRemoved:
      return log_container(*container, false, event.reason);
    case Event::Type::Gap:
      return;
  }
}

}  // namespace portfwd
