#include "access/helper_containers.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>

namespace portfwd {

namespace {

/// Never the same in two daemons of one machine since its start.
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
  running_.reset();  // before its successor: its socket's path may be the same
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
    : parts_(std::move(parts)), life_(new_life()), sweep_(parts_.loop, [this] { sweep(); }) {
  sweep_.arm_now();
}

std::shared_ptr<HelperLauncher> HelperContainers::launcher_for(const Container& container) {
  if (container.engine != "docker" || container.engine_id.empty()) return nullptr;
  engine_seen_ = true;
  sweep_.arm_now();
  return std::make_shared<HelperLauncher>(*this, container.engine_id);
}

std::vector<std::string> HelperContainers::usable() const {
  std::vector<std::string> sockets;
  std::ranges::copy_if(parts_.docker, std::back_inserter(sockets), [](const std::string& socket) {
    return ::access(socket.c_str(), R_OK | W_OK) == 0;
  });
  return sockets;
}

/// Once each socket.
void HelperContainers::sweep() {
  const std::vector<std::string> sockets = usable();
  if (sockets.empty() || !(engine_seen_ || parts_.engine_runs())) return;
  for (const std::string& socket : sockets) {
    if (swept_.insert(socket).second) sweep_one(socket);
  }
}

void HelperContainers::sweep_one(const std::string& engine) {
  ask({.socket = engine, .path = helper::list_path(parts_.folder), .body = {}},
      [this, engine](const HttpAnswer& answer) {
        for (const std::string& id : helper::ids_of(answer.body, life_)) remove(engine, id);
      });
}

void HelperContainers::remove(const std::string& engine, const std::string& id) {
  ask({.socket = engine,
       .method = HttpRequest::Method::Delete,
       .path = helper::remove_path(id),
       .body = {}},
      [](const HttpAnswer&) {});
}

/// What fails here is tried again by the next daemon's sweep.
void HelperContainers::ask(HttpRequest request, std::function<void(const HttpAnswer&)> done) {
  const auto place = calls_.emplace(calls_.end());
  *place = parts_.http.ask(std::move(request),
                           [this, place, done = std::move(done)](Result<HttpAnswer> answer) {
                             const HttpCall over = std::move(*place);
                             calls_.erase(place);
                             if (answer && answer->status < 300) done(*answer);
                           });
}

}  // namespace portfwd
