// A Control that does what it is told and remembers what it was asked, for tests of the bus
// objects: what the bus makes of an answer is the same whoever gives it.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "api/control.h"

namespace portfwd::testing_support {

inline ForwardInfo web_forward(const std::string& id = "f-1") {
  ForwardInfo f;
  f.id = id;
  f.container_id = "c_1";
  f.container_name = "web";
  f.container_engine = "podman";
  f.target = "8080";
  f.container_address = "127.0.0.1";
  f.container_port = 8080;
  f.host_addresses = {"127.0.0.1", "::1"};
  f.host_port = 8080;
  f.process = "nginx";
  f.url = "http://127.0.0.1:8080/";
  f.since = WallTime(std::chrono::microseconds(1767268800123456));  // 2026-01-01T12:00:00.123456Z
  f.counters = {
      .active = 1, .total = 12, .failed = 2, .refused = 3, .bytes_in = 123, .bytes_out = 456};
  return f;
}

inline ContainerInfo web_container(const std::string& id = "c_1") {
  ContainerInfo c;
  c.id = id;
  c.name = "web";
  c.engine = "podman";
  c.uid = 1000;
  c.pid = 4711;
  c.netns = 4026532281;
  c.image = "docker.io/library/nginx";
  c.labels = {{"project", "shop"}};
  c.pod = "back";
  c.project = "shop";
  c.service = "web";
  c.published = {{Protocol::Tcp, "127.0.0.1", 8081, 80, 1}};
  c.reach = AccessKind::Broker;
  c.listeners = {Listener{.local = {IpAddress::any(Family::V4), 8080}, .process = "nginx"}};
  c.ever_listened = true;
  return c;
}

class FakeControl final : public Control {
 public:
  std::vector<ForwardInfo> all_forwards;
  std::vector<ContainerInfo> all_containers;
  std::vector<Event> log;
  Facts facts{{"poll_cost", 0.25}};
  ControlObserver* observer = nullptr;
  std::optional<Refusal> refusal;  ///< of every request, while set

  struct Asked {
    std::string what = {};
    std::string container = {};
    std::string target = {};
    ForwardSpec spec = {};
    std::string lifeline = {};
    pid_t pid = 0;
  } asked;  ///< the last request
  UniqueFd netns_fd;
  std::vector<std::string> ended_lifelines;

  void add(const ForwardInfo& f) {
    all_forwards.push_back(f);
    observer->on_forward_added(f);
    tell(Event::Type::PortAdded, f, "");
  }
  void change(const ForwardInfo& f) {
    *std::ranges::find(all_forwards, f.id, &ForwardInfo::id) = f;
    observer->on_forward_changed(f);
  }
  void remove_forward(std::string_view id, const std::string& reason) {
    const auto at = std::ranges::find(all_forwards, id, &ForwardInfo::id);
    const ForwardInfo gone = *at;
    all_forwards.erase(at);
    observer->on_forward_removed(gone);
    tell(Event::Type::PortRemoved, gone, reason);
  }
  void add(const ContainerInfo& c) {
    all_containers.push_back(c);
    observer->on_container_added(c);
    tell(Event::Type::ContainerAdded, c, "");
  }
  void remove_container(std::string_view id, const std::string& reason) {
    const auto at = std::ranges::find(all_containers, id, &ContainerInfo::id);
    const ContainerInfo gone = *at;
    all_containers.erase(at);
    observer->on_container_removed(gone);
    tell(Event::Type::ContainerRemoved, gone, reason);
  }
  template <class Subject>
  void tell(Event::Type type, const Subject& subject, const std::string& reason) {
    Event event;
    event.seq = log.size() + 1;
    event.time = WallTime(std::chrono::microseconds(1767268800000000 + 1000000 * log.size()));
    event.type = type;
    event.reason = reason;
    event.subject = subject;
    log.push_back(event);
    observer->on_event(event);
  }

  Answer<std::string> forward(const ForwardSpec& spec, std::string_view lifeline) override {
    asked = {.what = "forward", .container = spec.container, .target = spec.target.text()};
    asked.spec = spec;
    asked.lifeline = lifeline;
    if (refusal) return std::unexpected(*refusal);
    ForwardInfo made = web_forward("made");
    made.origin = Origin::Manual;
    made.host_port = spec.host_port.value_or(made.host_port);
    add(made);
    return made.id;
  }
  [[nodiscard]] bool is_pending(std::string_view) const override { return false; }
  Answer<void> unforward(std::string_view id) override {
    asked = {.what = "unforward", .target = std::string(id)};
    if (refusal) return std::unexpected(*refusal);
    if (!find_forward(id)) return refuse(Refusal::Kind::NoSuchForward, "no such forward");
    remove_forward(id, "unforwarded");
    return {};
  }
  Answer<std::string> attach_pid(pid_t pid, std::string_view name) override {
    asked = {.what = "attach_pid", .container = std::string(name), .pid = pid};
    return attach();
  }
  Answer<std::string> attach_netns(UniqueFd netns, std::string_view name) override {
    asked = {.what = "attach_netns", .container = std::string(name)};
    netns_fd = std::move(netns);
    return attach();
  }
  Answer<void> detach(std::string_view id) override {
    asked = {.what = "detach", .container = std::string(id)};
    if (refusal) return std::unexpected(*refusal);
    if (!find_container(id)) return refuse(Refusal::Kind::NoSuchContainer, "no such container");
    remove_container(id, "detached");
    return {};
  }
  Answer<Facts> explain(std::string_view container, std::string_view target) override {
    asked = {.what = "explain", .container = std::string(container), .target = std::string(target)};
    if (refusal) return std::unexpected(*refusal);
    return Facts{{"forwarded", true},
                 {"summary", "8080 is forwarded"},
                 {"seen", std::vector<std::string>{"0.0.0.0:8080 by nginx", "since noon"}},
                 {"remedy", "end forward f-1"},
                 {"remedies", std::vector<Remedy>{{RemedyCode::EndForward, {"f-1"}}}}};
  }
  Answer<void> reload() override {
    asked = {.what = "reload"};
    if (refusal) return std::unexpected(*refusal);
    return {};
  }
  void lifeline_ended(std::string_view name) override { ended_lifelines.emplace_back(name); }

  std::vector<Event> events_after(std::uint64_t seq) const override {
    std::vector<Event> found;
    std::ranges::copy_if(log, std::back_inserter(found),
                         [&](const Event& e) { return e.seq > seq; });
    return found;
  }
  Facts status() const override { return facts; }
  std::string instance_id() const override { return "instance"; }
  std::uint64_t poll_interval_usec() const override { return 20000; }
  std::vector<ForwardInfo> forwards() const override { return all_forwards; }
  std::vector<ContainerInfo> containers() const override { return all_containers; }
  std::vector<ForwardCounters> counters(std::string_view id) const override {
    std::vector<ForwardCounters> out;
    for (const ForwardInfo& f : all_forwards) {
      if (id.empty() || f.id == id) out.push_back({f.id, f.counters});
    }
    return out;
  }
  std::optional<ForwardInfo> find_forward(std::string_view id) const {
    const auto at = std::ranges::find(all_forwards, id, &ForwardInfo::id);
    return at == all_forwards.end() ? std::nullopt : std::optional(*at);
  }
  std::optional<ContainerInfo> find_container(std::string_view id) const {
    const auto at = std::ranges::find(all_containers, id, &ContainerInfo::id);
    return at == all_containers.end() ? std::nullopt : std::optional(*at);
  }

 private:
  Answer<std::string> attach() {
    if (refusal) return std::unexpected(*refusal);
    add(web_container("attached"));
    return "attached";
  }
};

}  // namespace portfwd::testing_support
