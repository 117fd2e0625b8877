// A forward table on real host ports, and a log of its notifications. In place of a container there
// is a ContainerAccess whose "inside" is 127.0.0.2 of the test's own network namespace.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "discover/engine_facts.h"
#include "forward/forward_table.h"
#include "relay/netns_dialer.h"
#include "support/deadline.h"
#include "support/test_relay.h"

namespace portfwd::testing_support {

inline const IpAddress kInside = IpAddress::v4(127, 0, 0, 2);

inline UniqueFd listen_on(const Endpoint& at) {
  UniqueFd fd(::socket(address_family(at.address.family()), SOCK_STREAM | SOCK_CLOEXEC, 0));
  const SockAddr address = to_sockaddr(at);
  EXPECT_EQ(::bind(fd.get(), address.get(), address.length), 0) << std::strerror(errno);
  EXPECT_EQ(::listen(fd.get(), 16), 0);
  return fd;
}

class TestAccess final : public ContainerAccess {
 public:
  TestAccess(RelayContext& relay, std::string id, std::string name) : dialer_(relay, sockets_) {
    container_.id = std::move(id);
    container_.name = std::move(name);
    container_.engine = "test";
  }
  void set_ports(std::vector<Port> ports) {
    listeners_.clear();
    for (const Port port : ports) {
      Listener l;
      l.local = {kInside, port};
      l.cookie = port;
      listeners_.push_back(l);
    }
  }
  /// One listener, on a socket that may be that of another container too.
  void set_socket(Port port, std::uint32_t inode) {
    set_ports({port});
    listeners_.front().inode = inode;
  }
  void set_labels(std::map<std::string, std::string> labels) {
    (void)portfwd::set_labels(container_, std::move(labels));
  }
  void set_service(std::string project, std::string service) {
    container_.project = std::move(project);
    container_.service = std::move(service);
  }
  void set_engine_id(std::string id) { container_.engine_id = std::move(id); }
  void set_cgroup(std::string folder, std::uint64_t id) {
    container_.cgroup = std::move(folder);
    container_.cgroup_id = id;
  }
  void set_published(std::vector<PublishedPorts> published) {
    container_.image = "an image";
    container_.published = std::move(published);
  }
  void rename(std::string name) { container_.name = std::move(name); }
  const Container& container() const override { return container_; }
  ContainerState state() const override { return ContainerState::Watched; }
  AccessKind kind() const override { return AccessKind::Broker; }
  const std::string& reason() const override { return reason_; }
  const std::vector<Listener>& listeners() const override { return listeners_; }
  bool ever_listened() const override { return !listeners_.empty(); }
  Dialer& dialer(const DialOptions&) override {
    return other_dialer != nullptr ? *other_dialer : dialer_;
  }
  void expedite() override { ++hurried; }

  int hurried = 0;
  Dialer* other_dialer = nullptr;  ///< borrowed; null: its own

 private:
  Container container_;
  std::string reason_;
  std::vector<Listener> listeners_;
  LocalSockets sockets_;
  NetnsDialer dialer_;
};

struct Told final : ControlObserver {
  void on_forward_changed(const ForwardInfo& f) override {
    changes.push_back(fmt::format("{} {}", f.container_port, name_of(f.state)));
  }
  void on_event(const Event& event) override {
    const auto* f = std::get_if<ForwardInfo>(&event.subject);
    if (f == nullptr) return;
    if (event.type == Event::Type::PortAdded) {
      ports.push_back(fmt::format("+{}:{}@{} {}/{}", f->container_name, f->container_port,
                                  f->host_port, event.batch_index, event.batch_size));
    } else {
      ports.push_back(fmt::format("-{}:{} {}", f->container_name, f->container_port, event.reason));
    }
  }
  void on_limit(const Container& c, unsigned limit) override {
    ports.push_back(fmt::format("!{} {}", c.name, limit));
  }
  std::vector<std::string> take() { return std::exchange(ports, {}); }
  std::vector<std::string> ports, changes;
  int state_changes = 0;
};

struct Holder final : PortHolder {
  std::string holder_of(Protocol, const Endpoint&) const override { return "python3 (pid 42)"; }
};

struct ForwardTableTest : testing::Test {
  explicit ForwardTableTest(const Clock& clock = TestRelay::system_clock()) : relay(clock) {
    settings.host.linger = std::chrono::milliseconds(20);
    notifier.add(told);
    make_table({});
  }
  ~ForwardTableTest() override {
    table->stop();
    turn_until([this] { return table->forwards().draining().empty(); });
  }
  void make_table(const State& state) {
    table.emplace(ForwardTable::Parts{.loop = relay.loop,
                                      .relay = relay.services,
                                      .holders = holder,
                                      .notifier = notifier,
                                      .on_state_changed = [this] { ++told.state_changes; }},
                  settings, state);
  }
  TestAccess& container(std::string name) {
    TestAccess& reach = unseen(std::move(name));
    added(reach);
    return reach;
  }
  /// A container of which the table was not notified.
  TestAccess& unseen(std::string name) {
    const std::string id = "id-" + name + std::to_string(++ids);
    return *reaches.emplace_back(std::make_unique<TestAccess>(relay.context, id, std::move(name)));
  }
  void show(TestAccess& reach, std::vector<Port> ports) {
    reach.set_ports(std::move(ports));
    table->on_listeners(reach);
    reconcile();
  }
  void show_socket(TestAccess& reach, Port port, std::uint32_t inode) {
    reach.set_socket(port, inode);
    table->on_listeners(reach);
    reconcile();
  }
  void added(TestAccess& reach) {
    table->on_access_added(reach);
    reconcile();
  }
  void changed(TestAccess& reach) {
    table->on_access_changed(reach);
    reconcile();
  }
  void removed(TestAccess& reach, RemovalReason reason) {
    table->on_access_removed(reach, reason);
    reconcile();
  }
  void apply_settings() {
    table->apply_settings();
    reconcile();
  }
  /// Reconciles everything that is marked, in as many turns as needed.
  void reconcile() {
    do table->reconcile_dirty();
    while (table->busy());
  }
  ForwardInfo only() {
    const auto infos = table->forwards().infos();
    EXPECT_EQ(infos.size(), 1U);
    return infos.empty() ? ForwardInfo{} : infos.front();
  }
  Answer<std::string> ask(TestAccess* reach, Port port, ForwardSpec spec = {},
                          std::string name = "") {
    ForwardRequest request{.spec = std::move(spec)};
    request.spec.target = {Protocol::Tcp, port};
    request.spec.container = std::move(name);
    return table->add(reach, std::move(request));
  }
  void turn_until(const std::function<bool()>& done) {
    const TimePoint deadline = relay.loop.now() + kDeadline;
    while (!done() && relay.loop.now() < deadline)
      ASSERT_TRUE(relay.loop.turn(std::chrono::milliseconds(100)));
    EXPECT_TRUE(done());
  }

  TestRelay relay;
  Settings settings;
  Holder holder;
  Told told;
  Notifier notifier{relay.loop.clock()};
  std::optional<ForwardTable> table;
  std::vector<std::unique_ptr<TestAccess>> reaches;
  int ids = 0;
};

}  // namespace portfwd::testing_support
