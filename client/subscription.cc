#include "client/subscription.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cassert>
#include <deque>
#include <map>

#include "client/connection.h"
#include "client/values.h"

namespace portfwd::client {
namespace {

std::string lost_rule() {
  return fmt::format(
      "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{}',arg2=''",
      kBusName);
}
std::string objects_rule() {
  return fmt::format("type='signal',sender='{}',interface='org.freedesktop.DBus.ObjectManager'",
                     kBusName);
}
std::string properties_rule() {
  return fmt::format(
      "type='signal',sender='{}',interface='org.freedesktop.DBus.Properties',"
      "member='PropertiesChanged',path_namespace='{}'",
      kBusName, kManagerPath);
}

using Clock = std::chrono::steady_clock;
using Deadline = std::optional<Clock::time_point>;

/// Time until the earlier of both for poll(2), in milliseconds, rounded up; -1: unlimited.
int poll_timeout(Deadline deadline, std::optional<std::chrono::microseconds> other) {
  if (deadline) {
    const auto left = std::chrono::ceil<std::chrono::microseconds>(*deadline - Clock::now());
    other = other ? std::min(*other, left) : left;
  }
  if (!other) return -1;
  const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(*other).count();
  return static_cast<int>(std::clamp<std::int64_t>(milliseconds, 0, 1'000'000));
}

}  // namespace

/// The queue and the handlers that fill it. The handlers only append; the queue is interpreted by
/// take(), outside of them, since it may call the daemon.
class Subscription::Signals {
 public:
  Signals(Client& client, Connection& connection)
      : client_(client), connection_(connection), bus_(connection.bus()) {}
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  ~Signals() {
    connection_.manager().on_event = [](const char*, const std::string&, const Properties&) {};
  }

  /// Throws Error.
  void subscribe(Wanted wanted) {
    match(lost_rule(), [this](sdbus::Message&) { queue_.emplace_back(DaemonLost()); });
    if (wanted.objects) {
      match(objects_rule(), [this](sdbus::Message& m) { on_object_signal(m); });
      match(properties_rule(), [this](sdbus::Message& m) { on_properties_changed(m); });
      exchange([&] {
        for (const auto& [path, interfaces] : connection_.managed_objects()) add(path, interfaces);
      });
    }
    if (wanted.events_after) {
      last_seq_ = *wanted.events_after;
      ManagerProxy& manager = connection_.manager();
      manager.on_event = [this](const char* type, const std::string& path, const Properties& p) {
        queue_.emplace_back(decode_event(type, path, p));
      };
      exchange([&] { manager.registerProxy(); });
      read_log();
    }
  }

  std::optional<Notification> next_queued() {
    assert(!lost_);
    while (!queue_.empty()) {
      if (const auto* event = std::get_if<Event>(&queue_.front()); event && !is_next(*event)) {
        continue;
      }
      Notification next = std::move(queue_.front());
      queue_.pop_front();
      lost_ = std::holds_alternative<DaemonLost>(next);
      return next;
    }
    return {};
  }

  /// Processes messages that have arrived, else waits for some. @return false after the deadline
  bool process_or_wait(Deadline deadline) {
    try {
      if (process()) return true;
      const auto needs = compat::poll_needs(bus_);
      pollfd fd{needs.fd, static_cast<short>(needs.events), 0};
      static_cast<void>(::poll(&fd, 1, poll_timeout(deadline, needs.timeout)));
      return process() || !deadline || Clock::now() < *deadline;
    } catch (const sdbus::Error&) {
      queue_.emplace_back(DaemonLost());
      return true;
    }
  }

 private:
  template <class Handler>
  void match(const std::string& rule, Handler handler) {
    auto guarded = [handler = std::move(handler)](sdbus::Message& message) {
      try {
        handler(message);
      } catch (const sdbus::Error&) {
        return;  // wrong arguments of a signal; an exception must not pass through libsystemd
      }
    };
    exchange([&] { matches_.push_back(compat::add_match(bus_, rule, std::move(guarded))); });
  }

  bool process() {
    bool any = false;
    while (compat::process_one(bus_)) any = true;
    return any;
  }

  /// Returns whether the event at the front of the queue is the next one. Otherwise it drops the
  /// event, if it was delivered before, or inserts the missing events before it.
  bool is_next(const Event& event) {
    assert(&event == std::get_if<Event>(&queue_.front()));
    if (event.seq <= last_seq_) {
      queue_.pop_front();
      return false;
    }
    if (event.seq > last_seq_ + 1 && event.seq > log_read_to_) {
      log_read_to_ = event.seq;
      try {
        read_log();
      } catch (const Error&) {
        return false;  // the daemon is lost, which a later notification reports
      }
      return false;
    }
    assert(event.seq == last_seq_ + 1 || event.seq <= log_read_to_);
    last_seq_ = event.seq;
    return true;
  }

  /// Reads the events after last_seq_ from the log and inserts them at the front of the queue.
  void read_log() {
    std::vector<Event> events = client_.events_after(last_seq_);
    if (!events.empty()) log_read_to_ = std::max(log_read_to_, events.back().seq);
    queue_.insert(queue_.begin(), std::make_move_iterator(events.begin()),
                  std::make_move_iterator(events.end()));
  }

  void add(const std::string& path, const std::map<std::string, Properties>& interfaces) {
    for (const auto& [interface, properties] : interfaces) {
      if (interface == kForwardInterface) set(forwards_[path], path, properties);
      if (interface == kContainerInterface) set(containers_[path], path, properties);
    }
  }

  template <class Object>
  void set(Object& object, const std::string& path, const Properties& properties) {
    object.path = path;
    update(object, properties);
    queue_.emplace_back(Updated<Object>{object});
  }

  template <class Object>
  void remove(std::map<std::string, Object>& objects, const std::string& path) {
    if (auto node = objects.extract(path)) {
      queue_.emplace_back(Removed<Object>{std::move(node.mapped())});
    }
  }

  template <class Object>
  void change(std::map<std::string, Object>& objects, const std::string& path,
              const Properties& properties) {
    const auto at = objects.find(path);
    if (at != objects.end()) set(at->second, path, properties);
  }

  void on_object_signal(sdbus::Message& message) {
    const std::string member = message.getMemberName();
    sdbus::ObjectPath path;
    message >> path;
    if (member == "InterfacesAdded") {
      std::map<std::string, Properties> interfaces;
      message >> interfaces;
      add(path, interfaces);
    } else if (member == "InterfacesRemoved") {
      std::vector<std::string> interfaces;
      message >> interfaces;
      for (const std::string& interface : interfaces) {
        if (interface == kForwardInterface) remove(forwards_, path);
        if (interface == kContainerInterface) remove(containers_, path);
      }
    }
  }

  void on_properties_changed(sdbus::Message& message) {
    const std::string path = message.getPath();
    std::string interface;
    Properties properties;
    message >> interface >> properties;
    if (interface == kForwardInterface) change(forwards_, path, properties);
    if (interface == kContainerInterface) change(containers_, path, properties);
  }

  Client& client_;
  Connection& connection_;
  sdbus::IConnection& bus_;
  std::deque<Notification> queue_;
  std::map<std::string, Forward> forwards_;
  std::map<std::string, Container> containers_;
  std::uint64_t last_seq_ = 0;     ///< number of the last delivered event
  std::uint64_t log_read_to_ = 0;  ///< missing numbers up to this one are not in the log either
  bool lost_ = false;
  std::vector<sdbus::Slot> matches_;
};

Subscription::Subscription(Client& client, Wanted wanted) {
  assert(wanted.events_after || wanted.objects);
  assert(!client.subscribed_);
  client.subscribed_ = true;
  signals_ = std::make_unique<Signals>(client, client.connection());
  signals_->subscribe(wanted);
}
Subscription::~Subscription() = default;

std::optional<Notification> Subscription::next(Client::Timeout timeout) {
  Deadline deadline;
  if (timeout) deadline = Clock::now() + *timeout;
  while (true) {
    if (auto next = signals_->next_queued()) return next;
    if (!signals_->process_or_wait(deadline)) return {};
  }
}

}  // namespace portfwd::client
