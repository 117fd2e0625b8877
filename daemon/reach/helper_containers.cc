#include "reach/helper_containers.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

namespace portfwd {

Result<BrokerProcess> HelperLauncher::launch() {
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
      HelperStart::Parts{all.loop, all.http, engines_,
                         [&owner = owner_](const std::string& engine, const std::string& id) {
                           owner.remove(engine, id);
                         },
                         [this](std::string why) { failure_ = std::move(why); }},
      helper::Spec{.container_id = container_id_,
                   .image_id = {},
                   .program = all.program,
                   .socket = fmt::format("{}/helper-{}.sock", all.folder, ++owner_.sockets_),
                   .folder = all.folder,
                   .uid = ::geteuid(),
                   .gid = ::getegid()},
      std::move(theirs));
  return started;
}

std::shared_ptr<HelperLauncher> HelperContainers::launcher_for(const Container& container) {
  if (container.engine != "docker" || container.engine_id.empty()) return nullptr;
  std::vector<std::string> usable;
  for (const std::string& socket : parts_.docker) {
    if (::access(socket.c_str(), R_OK | W_OK) != 0) continue;
    usable.push_back(socket);
    if (swept_.insert(socket).second) sweep(socket);
  }
  if (usable.empty()) return nullptr;
  return std::make_shared<HelperLauncher>(*this, std::move(usable), container.engine_id);
}

void HelperContainers::sweep(const std::string& engine) {
  ask({.socket = engine, .path = helper::list_path(parts_.folder), .body = {}},
      [this, engine](const HttpAnswer& answer) {
        for (const std::string& id : helper::ids_of(answer.body)) remove(engine, id);
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
