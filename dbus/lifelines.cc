#include "dbus/lifelines.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdint>

namespace portfwd {

namespace {

/// Calls on a connection are waited for, but no longer than this while it lives: within a request
/// of one caller, a bus that does not answer must not hold up everybody else.
class BriefCalls {
 public:
  static constexpr std::chrono::milliseconds kLongest{200};

  explicit BriefCalls(sdbus::IConnection& connection)
      : connection_(connection), usual_(connection.getMethodCallTimeout()) {
    connection_.setMethodCallTimeout(kLongest);
  }
  BriefCalls(const BriefCalls&) = delete;
  BriefCalls& operator=(const BriefCalls&) = delete;
  ~BriefCalls() { connection_.setMethodCallTimeout(usual_); }

 private:
  sdbus::IConnection& connection_;
  std::uint64_t usual_;  ///< µs
};

}  // namespace

/// First the match, then the question: the bus answers in order, so a caller that left before the
/// match was there is seen by the question, and one that leaves later by the match.
bool Lifelines::watch(const std::string& name) {
  if (matches_.contains(name)) return true;
  const BriefCalls brief(connection_);
  auto match = compat::add_match(
      connection_,
      fmt::format("type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                  "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{}',arg2=''",
                  name),
      [this, name](sdbus::Message&) { end(name); });
  if (!name_has_owner(connection_, name)) return false;
  matches_.emplace(name, std::move(match));
  return true;
}

void Lifelines::end(const std::string& name) {
  over_.push_back(name);  // not erased here: the match's own handler is running
  ended_(name);
}

void Lifelines::forget_ended() {
  for (const std::string& name : std::exchange(over_, {})) matches_.erase(name);
}

bool name_has_owner(sdbus::IConnection& connection, const std::string& name) {
  auto bus = sdbus::createProxy(connection, compat::ServiceName("org.freedesktop.DBus"),
                                sdbus::ObjectPath("/org/freedesktop/DBus"));
  bool owned = false;
  bus->callMethod("NameHasOwner")
      .onInterface("org.freedesktop.DBus")
      .withArguments(name)
      .storeResultsTo(owned);
  return owned;
}

}  // namespace portfwd
