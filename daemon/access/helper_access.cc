
#include "access/helper_access.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <chrono>

#include "base/json_reader.h"
#include "base/log.h"
#include "broker/client/broker_launcher.h"
#include "discover/names.h"

namespace portfwd::helper {

namespace {

using Json = nlohmann::json;

constexpr std::string_view kVersion = "/v1.40";
constexpr const char* kProgram = "/portfwd-broker";  // path inside
constexpr const char* kSocket = "/portfwd.sock";
constexpr const char* kHelperLabel = "portfwd.helper";
constexpr const char* kFolder = "portfwd.folder";
constexpr const char* kLife = "portfwd.life";
constexpr std::size_t kLongestMessage = 300;

/// Serializes without exceptions: invalid UTF-8 is replaced.
std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json bind_mount(const std::string& source, const char* target, bool read_only) {
  return {{"Type", "bind"}, {"Source", source}, {"Target", target}, {"ReadOnly", read_only}};
}

std::string percent_encoded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (plain) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

std::string container_path(std::string_view id, std::string_view rest) {
  return fmt::format("{}/containers/{}{}", kVersion, percent_encoded(id), rest);
}

}  // namespace

/// With label=disable SELinux lets the helper connect to the socket, which it would deny a confined
/// container. No effect without SELinux.
std::string creation(const Spec& spec) {
  const Json host{
      {"NetworkMode", "container:" + spec.container_id},
      {"AutoRemove", true},
      {"ReadonlyRootfs", true},
      {"CapDrop", Json::array({"ALL"})},
      {"SecurityOpt", Json::array({"no-new-privileges", "label=disable"})},
      {"LogConfig", {{"Type", "none"}}},
      {"Mounts", Json::array({bind_mount(spec.program, kProgram, true),
                              bind_mount(spec.socket, kSocket, false)})},
  };
  return text_of({{"Image", spec.image_id},
                  {"Entrypoint", Json::array({kProgram})},
                  {"Cmd", Json::array({kSocket})},
                  {"User", fmt::format("{}:{}", spec.uid, spec.gid)},
                  {"WorkingDir", "/"},
                  {"Healthcheck", {{"Test", Json::array({"NONE"})}}},
                  {"Labels", {{kHelperLabel, "1"}, {kFolder, spec.folder}, {kLife, spec.life}}},
                  {"HostConfig", host}});
}

std::string inspect_path(std::string_view container_id) {
  return container_path(container_id, "/json");
}

std::string create_path() {
  return fmt::format("{}/containers/create", kVersion);
}

std::string start_path(std::string_view id) {
  return container_path(id, "/start");
}

std::string remove_path(std::string_view id) {
  return container_path(id, "?force=1&v=1");
}

std::string list_path(std::string_view folder) {
  const Json filters{{"label", Json::array({fmt::format("{}=1", kHelperLabel),
                                            fmt::format("{}={}", kFolder, folder)})}};
  return fmt::format("{}/containers/json?all=1&filters={}", kVersion,
                     percent_encoded(text_of(filters)));
}

std::string image_of(std::string_view inspected) {
  return text_in(parse_json(inspected), "Image");
}

std::string id_of(std::string_view created) {
  return text_in(parse_json(created), "Id");
}

std::string message_of(std::string_view failure) {
  return names::printable(text_in(parse_json(failure), "message"), kLongestMessage);
}

std::vector<std::string> ids_of(std::string_view list, std::string_view but_of_life) {
  std::vector<std::string> ids;
  const Json all = parse_json(list);
  if (!all.is_array()) return ids;
  for (const Json& container : all) {
    if (text_in(member(container, "Labels"), kLife) == but_of_life) continue;
    if (std::string id = text_in(container, "Id"); names::is_hex_id(id)) ids.push_back(id);
  }
  return ids;
}
}  // namespace portfwd::helper

namespace portfwd {

namespace {

constexpr Duration kEngineTimeout = std::chrono::seconds(10);  // enough for a busy engine

/// Whether the peer of a Unix socket runs as this user. Source: unix(7), SO_PEERCRED.
bool is_ours(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         peer.uid == ::geteuid();
}

}  // namespace

HelperStart::HelperStart(Parts parts, helper::Spec spec, UniqueFd end)
    : parts_(std::move(parts)),
      spec_(std::move(spec)),
      end_(std::move(end)),
      listening_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)),
      source_(parts_.loop, listening_.get(), *this) {
  if (const auto listens = listen(); !listens) {
    report_failure(fmt::format("{}: {}", spec_.socket, listens.error().text()));
  } else {
    find_image();
  }
}

HelperStart::~HelperStart() {
  ::unlink(spec_.socket.c_str());
  if (!id_.empty()) parts_.remove(engine(), id_);
}

Result<void> HelperStart::listen() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (spec_.socket.size() >= sizeof address.sun_path) return fail("bind", ENAMETOOLONG);
  spec_.socket.copy(address.sun_path, sizeof address.sun_path - 1);
  ::unlink(spec_.socket.c_str());  // left by a daemon that was killed
  const auto* at = reinterpret_cast<const sockaddr*>(&address);
  if (::bind(listening_.get(), at, sizeof address) != 0) return fail("bind");
  if (::listen(listening_.get(), 1) != 0) return fail("listen");
  return source_.watch(EPOLLIN);
}

void HelperStart::find_image() {
  send_request(HttpRequest::Method::Get, helper::inspect_path(spec_.container_id), "",
               &HelperStart::create);
}

void HelperStart::send_request(HttpRequest::Method method, std::string path, std::string body,
                               Next next) {
  HttpRequest request{.socket = engine(),
                      .method = method,
                      .path = std::move(path),
                      .body = std::move(body),
                      .deadline = kEngineTimeout};
  call_ = parts_.http.send_request(std::move(request), [this, next](Result<HttpAnswer> answer) {
    const bool unknown = answer && answer->status == 404 && spec_.image_id.empty();
    if (unknown && parts_.engines.size() > 1) {
      parts_.engines.erase(parts_.engines.begin());  // such as that of a rootless engine
      return find_image();
    }
    if (!answer) {
      return report_failure(fmt::format("{} does not answer: {}", engine(), answer.error().text()));
    }
    if (answer->status >= 300) {
      return report_failure("the engine rejected the request: " + helper::message_of(answer->body));
    }
    (this->*next)(answer->body);
  });
}

void HelperStart::create(const std::string& inspected) {
  spec_.image_id = helper::image_of(inspected);
  if (spec_.image_id.empty()) return report_failure("the engine returned no image id");
  send_request(HttpRequest::Method::Post, helper::create_path(), helper::creation(spec_),
               &HelperStart::start);
}

void HelperStart::start(const std::string& created) {
  id_ = helper::id_of(created);
  if (id_.empty()) return report_failure("the engine returned no container id");
  send_request(HttpRequest::Method::Post, helper::start_path(id_), "", &HelperStart::started);
}

/// Sends the broker's end to the helper. The peer must run as this user; the socket is in a folder
/// of the user as well.
void HelperStart::on_io(IoSource&, std::uint32_t) {
  const UniqueFd peer(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!peer.valid() || !is_ours(peer.get())) return;
  const std::array<std::byte, 1> byte{};
  if (!send_with_fds(peer.get(), byte, std::array{end_.get()})) return;
  source_.disarm();
  end_.reset();
}

/// Reports why and closes the end, by which the BrokerClient notices the failure.
void HelperStart::report_failure(std::string why) {
  parts_.failed(std::move(why));
  source_.disarm();
  end_.reset();
}

namespace {

/// A value that no two daemons have since the machine was booted.
std::string new_life() {
  return fmt::format("{}-{}", ::getpid(),
                     std::chrono::steady_clock::now().time_since_epoch().count());
}

}  // namespace

bool HelperLauncher::usable() const {
  return !owner_.usable().empty();
}

std::string HelperLauncher::hint() const {
  for (const std::string& socket : owner_.parts_.docker) {
    if (::access(socket.c_str(), R_OK | W_OK) == 0) continue;
    const std::string join = hint_to_join_group(socket, owner_.parts_.user);
    if (!join.empty()) return fmt::format("{}, or {}", kRunRootless, join);
  }
  return std::string(kRunRootless);
}

Result<BrokerProcess> HelperLauncher::launch() {
  std::vector<std::string> engines = owner_.usable();
  if (engines.empty()) return fail("access", EACCES);
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return fail("socketpair");
  }
  BrokerProcess started;
  started.socket = UniqueFd(ends[0]);
  UniqueFd theirs(ends[1]);
  const HelperContainers::Parts& all = owner_.parts_;
  if (::mkdir(all.folder.c_str(), 0700) != 0 && errno != EEXIST) return fail("mkdir");
  running_.reset();  // removes the previous helper: there is one at a time
  failure_.clear();
  running_ = std::make_unique<HelperStart>(
      HelperStart::Parts{all.loop, all.http, std::move(engines),
                         [&owner = owner_](const std::string& engine, const std::string& id) {
                           owner.remove(engine, id);
                         },
                         [this](std::string why) { failure_ = std::move(why); }},
      helper::Spec{.container_id = container_id_,
                   .image_id = {},
                   .program = all.program,
                   .socket = fmt::format("{}/helper-{}.sock", all.folder, ++owner_.sockets_),
                   .folder = all.folder,
                   .life = owner_.life_,
                   .uid = ::geteuid(),
                   .gid = ::getegid()},
      std::move(theirs));
  return started;
}

HelperContainers::HelperContainers(Parts parts)
    : parts_(std::move(parts)),
      life_(new_life()),
      remove_leftovers_(parts_.loop, [this] { remove_leftovers(); }) {
  remove_leftovers_.arm_now();
}

std::shared_ptr<HelperLauncher> HelperContainers::launcher_for(const Container& container) {
  if (container.engine != "docker" || container.engine_id.empty()) return nullptr;
  engine_seen_ = true;
  remove_leftovers_.arm_now();
  return std::make_shared<HelperLauncher>(*this, container.engine_id);
}

std::vector<std::string> HelperContainers::usable() const {
  std::vector<std::string> sockets;
  std::ranges::copy_if(parts_.docker, std::back_inserter(sockets), [](const std::string& socket) {
    return ::access(socket.c_str(), R_OK | W_OK) == 0;
  });
  return sockets;
}

/// Removes leftovers, once for each socket.
void HelperContainers::remove_leftovers() {
  const std::vector<std::string> sockets = usable();
  if (sockets.empty() || !(engine_seen_ || parts_.engine_runs())) return;
  for (const std::string& socket : sockets) {
    if (cleaned_engines_.insert(socket).second) remove_leftovers_of(socket);
  }
}

void HelperContainers::remove_leftovers_of(const std::string& engine) {
  send_request({.socket = engine, .path = helper::list_path(parts_.folder), .body = {}},
               [this, engine](const HttpAnswer& answer) {
                 for (const std::string& id : helper::ids_of(answer.body, life_))
                   remove(engine, id);
               });
}

void HelperContainers::remove(const std::string& engine, const std::string& id) {
  send_request({.socket = engine,
                .method = HttpRequest::Method::Delete,
                .path = helper::remove_path(id),
                .body = {}},
               [](const HttpAnswer&) {});
}

/// Sends a request without waiting for it. If it fails, the next daemon removes the leftover.
void HelperContainers::send_request(HttpRequest request,
                                    std::function<void(const HttpAnswer&)> done) {
  const auto place = calls_.emplace(calls_.end());
  *place = parts_.http.send_request(
      std::move(request), [this, place, done = std::move(done)](Result<HttpAnswer> answer) {
        const HttpCall over = std::move(*place);
        calls_.erase(place);
        if (answer && answer->status < 300) done(*answer);
      });
}

namespace {

bool needs_helper(const Listener& listener) {
  const IpAddress* inside = listener.ip_address();
  return !listener.unreachable.empty() && inside != nullptr && *inside != kEngineResolver;
}

/// A helper can dial abstract names. One is started when something is to be dialled, not because a
/// name exists: most are never dialled.
void clear_abstract_names(std::vector<Listener>& listeners) {
  for (Listener& listener : listeners) {
    if (std::holds_alternative<AbstractName>(listener.local)) listener.unreachable.clear();
  }
}

}  // namespace

HelperAccess::HelperAccess(const Parts& parts, RelayContext& relay, Entry entry)
    : NetnsAccess(parts, entry.pid, 0),
      relay_(relay),
      launcher_(std::move(entry.launcher)),
      view_(
          relay, std::move(entry.inside), [this] { return launcher_->hint(); },
          [this] { update_listeners(); }),
      retry_(relay.loop(), [this] { update_listeners(); }) {
  assert(launcher_ != nullptr);
}

DialStart HelperAccess::dial(std::span<const Address> candidates, TimePoint deadline,
                             DialHandler& handler) {
  Dialer& by = entered_ ? sockets_->dialer(Protocol::Tcp) : view_.dialer();
  return by.dial(candidates, deadline, handler);
}

/// Gives the watch a source. Without tcp_diag the helper cannot make the sockets that the watch
/// reads.
void HelperAccess::on_source_needed() {
  if (!entered_ || !modules().of(Protocol::Tcp)) {
    (void)watch().use_procfs(view_.table());  // the watch requests again after a failure
    return;
  }
  sockets_->request_diag([this](Result<void> made) {
    if (!made) watch().diag_failed(made.error());
  });
}

void HelperAccess::prepare_dialing(std::vector<Listener>& listeners) {
  mark_paths(listeners, kNoFiles);
  if (entered_) return sockets_->prepare(listeners);
  view_.mark_unreachable(listeners, failure_text_);
  if (failure_text_.empty()) clear_abstract_names(listeners);
  if (std::ranges::any_of(listeners, needs_helper)) start_helper();
}

Answer<std::unique_ptr<InsidePort>> HelperAccess::listen_inside(Port port, OnInsidePort on_port) {
  start_helper();
  if (!sockets_) return refuse(Refusal::Kind::Inaccessible, view_.no_socket_reason(failure_text_));
  return sockets_->listen_inside(port, std::move(on_port));
}

void HelperAccess::start_helper() {
  if (sockets_ || retry_.armed()) return;
  assert(!entered_);
  if (!launcher_->usable()) return retry_.arm_after(kRetry);
  sockets_.emplace(
      relay_,
      std::make_shared<BrokerClient>(relay_.loop(), launcher_, UniqueFd(), broker::Home::Here),
      UniqueFd(), watch());
  auto on_answer = [this](Result<void> made) {
    made ? on_helper_started() : on_helper_failed(made.error());
  };
  if (modules().of(Protocol::Tcp)) {
    sockets_->request_diag(std::move(on_answer));
  } else {
    sockets_->request_probe(std::move(on_answer));
  }
}

void HelperAccess::on_helper_started() {
  assert(sockets_ && !entered_);
  entered_ = true;
  failure_text_.clear();
  view_.stop();
  update_listeners();
}

void HelperAccess::on_helper_failed(const Error& error) {
  assert(sockets_ && !entered_);
  const std::string& why = launcher_->failure();
  std::string failure_text =
      fmt::format("cannot start a helper container ({})", why.empty() ? error.text() : why);
  if (failure_text != failure_text_) {
    log::write(log::Level::Warning, failure_text + "; will retry every minute",
               {{"MESSAGE_ID", std::string(log::message_id::kBrokerFailed)}});
  }
  failure_text_ = std::move(failure_text);
  sockets_.reset();
  retry_.arm_after(kRetry);
  update_listeners();
}

}  // namespace portfwd
