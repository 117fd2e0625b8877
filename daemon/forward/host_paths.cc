#include "forward/host_paths.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cassert>
#include <string_view>
#include <utility>

namespace portfwd {

namespace {

constexpr unsigned kMostOfOneName = 100;
constexpr std::size_t kLongestContainer = 48;  ///< bytes of a container's name in a path

/// A part of a path that shells and people can handle: other bytes become '_'.
std::string as_part(std::string_view text) {
  std::string part(text);
  std::ranges::replace_if(
      part, [](char c) { return c <= ' ' || c > '~' || c == '/' || c == '\\' || c == '"'; }, '_');
  if (part.empty() || part.front() == '.' || part.front() == '-') part.insert(0, "_");
  return part;
}

struct LastPart {
  std::string operator()(const UnixPath& target) const {
    const auto slash = target.path.rfind('/');
    return slash == std::string::npos ? target.path : target.path.substr(slash + 1);
  }
  std::string operator()(const AbstractName& target) const { return target.name; }
  std::string operator()(const auto&) const { return "socket"; }
};

/// "app.sock" becomes "app-2.sock".
std::string numbered(const std::string& name, unsigned number) {
  if (number == 1) return name;
  const auto dot = name.rfind('.');
  const std::size_t stem = dot == std::string::npos || dot == 0 ? name.size() : dot;
  return fmt::format("{}-{}{}", name.substr(0, stem), number, name.substr(stem));
}

std::string folder_of(const std::string& path) {
  return path.substr(0, path.rfind('/'));
}

bool is_below(const std::string& path, const std::string& folder) {
  return path.starts_with(folder + "/");
}

}  // namespace

std::string automatic_path(const std::string& folder, const std::string& container,
                           const Target& target, unsigned number) {
  const std::string name = as_part(std::visit(LastPart(), target));
  return fmt::format("{}/{}/{}", folder, as_part(container.substr(0, kLongestContainer)),
                     numbered(name, number));
}

void HostPaths::restore(const State& state) {
  sticky_.restore(state.paths);
}

void HostPaths::save(State& state) const {
  state.paths = sticky_.all();
}

HostPlaces::Outcome HostPaths::bind(HostForward& forward, TimePoint) {
  if (const auto known = requests_.find(forward.id()); known != requests_.end()) {
    if (!known->second.result) return Outcome::Requested;
    Request done = std::move(known->second);
    requests_.erase(known);
    return adopt(forward, std::move(done));
  }
  forward.begin_search({});
  auto path = choose(forward);
  if (path) return request(forward, *path);
  forward.mark_conflict(std::move(path.error()), EADDRINUSE);
  return Outcome::Conflict;
}

/// @return the path, or why there is none
std::expected<std::string, std::string> HostPaths::choose(const HostForward& forward) const {
  if (parts_.broker == nullptr || parts_.folder.empty()) {
    return std::unexpected("there is no runtime folder for sockets: set XDG_RUNTIME_DIR");
  }
  const std::string& asked = forward.treatment().host_path;
  if (!asked.empty()) {
    const Held* other = holder(asked, forward);
    if (other == nullptr) return asked;
    return std::unexpected(fmt::format("path {} is held by container {} (forward {})", asked,
                                       other->container, other->forward_id));
  }
  const HostPathRecord* before = sticky_.recall(forward.names(), forward.key().target);
  if (before != nullptr && is_below(before->path, parts_.folder) &&
      holder(before->path, forward) == nullptr) {
    return before->path;
  }
  for (unsigned number = 1; number <= kMostOfOneName; ++number) {
    std::string path =
        automatic_path(parts_.folder, forward.container_name(), forward.key().target, number);
    if (path.size() > kLongestUnixName) {
      return std::unexpected(
          fmt::format("its path on the host would have {} bytes, and a socket's "
                      "path has at most {}: choose a shorter one",
                      path.size(), kLongestUnixName));
    }
    if (holder(path, forward) == nullptr) return path;
  }
  return std::unexpected("all paths of its name are taken by other forwards");
}

const HostPaths::Held* HostPaths::holder(const std::string& path,
                                         const HostForward& forward) const {
  const auto held = held_.find(path);
  if (held == held_.end() || held->second.forward_id == forward.id()) return nullptr;
  return &held->second;
}

/// The socket that a former daemon has left at the path. portfwd's own folder is on a file system
/// of the user's session, which answers at once.
std::optional<broker::FileId> HostPaths::replaceable(const HostForward& forward,
                                                     const std::string& path) const {
  if (!is_below(path, parts_.folder)) {
    const HostPathRecord* before = sticky_.recall(forward.names(), forward.key().target);
    if (before == nullptr || before->path != path) return std::nullopt;
    return broker::FileId{before->device, before->inode};
  }
  struct stat there {};
  if (::lstat(path.c_str(), &there) != 0 || !S_ISSOCK(there.st_mode)) return std::nullopt;
  return broker::FileId{there.st_dev, there.st_ino};
}

HostPlaces::Outcome HostPaths::request(HostForward& forward, const std::string& path) {
  if (is_below(path, parts_.folder)) {
    (void)::mkdir(parts_.folder.c_str(), 0700);  // bind(2) reports what is missing
    (void)::mkdir(folder_of(path).c_str(), 0700);
  }
  const SocketOptions& asked = forward.treatment().socket;
  const SocketType type = forward.treatment().socket_type.value_or(SocketType::Stream);
  ListenOptions options{.type = type,
                        .mode = asked.mode,
                        .make_parents = asked.create_parents,
                        .replace = replaceable(forward, path)};
  options.refuse_fds = !asked.pass_fds;
  if (asked.owner) options.owner = InnerUser{asked.owner->uid, asked.owner->gid};
  held_[path] = {forward.id(), forward.container_name(), type, {}};
  Request& request = requests_[forward.id()];
  request.path = path;
  request.call = bind_unix(*parts_.broker, UnixPath{path}, options, nullptr,
                           [this, id = forward.id()](std::expected<BoundSocket, PathFailure> made) {
                             requests_.at(id).result = std::move(made);
                             on_ready_(id);
                           });
  forward.mark_conflict("its socket on the host is being made", EINPROGRESS);
  return Outcome::Requested;
}

HostPlaces::Outcome HostPaths::adopt(HostForward& forward, Request request) {
  std::expected<BoundSocket, PathFailure>& made = *request.result;
  if (!made) {
    held_.erase(request.path);
    forward.mark_conflict(fmt::format("cannot bind {}: {}", request.path, text_of(made.error())),
                          made.error().error.code);
    return Outcome::Conflict;
  }
  held_.at(request.path).file = file_of(*made);
  if (const auto adopted = forward.adopt(std::move(*made)); !adopted) {
    held_.erase(request.path);
    forward.mark_conflict(fmt::format("{}: {}", request.path, adopted.error().error.text()),
                          adopted.error().error.code);
    return Outcome::Conflict;
  }
  forward.set_remapped("");
  remember(forward);
  return Outcome::Bound;
}

void HostPaths::release(const HostForward& forward) {
  requests_.erase(forward.id());
  std::erase_if(held_, [&](const auto& held) { return held.second.forward_id == forward.id(); });
}

/// Both sides must have sockets of one type. A detected forward also follows the rules.
bool HostPaths::misplaced(const HostForward& forward, const Treatment& treatment) {
  const Treatment& was = forward.treatment();
  if (host_side(forward.key().target, treatment) != Protocol::Unix) return true;
  const auto held = held_.find(forward.host_path());
  const bool other_type =
      held != held_.end() && treatment.socket_type && *treatment.socket_type != held->second.type;
  if (other_type) return true;
  return forward.origin() == Origin::Auto &&
         (was.host_path != treatment.host_path || was.socket != treatment.socket);
}

bool HostPaths::remembered_elsewhere(const HostForward& forward) const {
  if (forward.origin() != Origin::Auto || !forward.treatment().host_path.empty()) return false;
  const HostPathRecord* before = sticky_.recall(forward.names(), forward.key().target);
  return before != nullptr && !forward.host_path().empty() && before->path != forward.host_path() &&
         !held_.contains(before->path);
}

void HostPaths::remember(const HostForward& forward) {
  const auto held = held_.find(forward.host_path());
  if (held == held_.end()) return;
  const broker::FileId& file = held->second.file;
  if (sticky_.remember(forward.names(), forward.key().target,
                       {forward.host_path(), file.device, file.inode})) {
    on_remembered_changed_();
  }
}

}  // namespace portfwd
