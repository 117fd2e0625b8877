
#include "broker/client/path_broker.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <string>
#include <utility>

#include "kernel/netns.h"

namespace portfwd {

namespace {

/// A request with the address and the fields that both operations share.
Result<broker::Request> unix_request(broker::Op op, const Address& address, SocketType type,
                                     bool refuse_fds) {
  broker::Request request;
  request.op = op;
  request.type = type == SocketType::Stream ? SOCK_STREAM : SOCK_SEQPACKET;
  if (refuse_fds) request.flags |= broker::kRefuseFds;
  if (const auto* name = std::get_if<AbstractName>(&address)) {
    if (name->name.empty()) return fail("name", EINVAL);
    if (name->name.size() > broker::kLongestName) return fail("name", ENAMETOOLONG);
    std::memcpy(request.path, name->name.data(), name->name.size());
    request.name_size = static_cast<std::uint32_t>(name->name.size());
    return request;
  }
  const auto* place = std::get_if<UnixPath>(&address);
  if (place == nullptr) return fail("path", EAFNOSUPPORT);
  const std::string& path = place->path;
  if (path.size() >= sizeof request.path) return fail("path", ENAMETOOLONG);
  if (!path.starts_with('/') || path.find('\0') != std::string::npos) return fail("path", EINVAL);
  std::memcpy(request.path, path.data(), path.size());
  return request;
}

}  // namespace

Result<broker::Request> unix_connection(const Address& address, const ConnectOptions& options) {
  auto request = unix_request(broker::Op::UnixConnect, address, options.type, options.refuse_fds);
  if (request && options.peer) {
    request->flags |= broker::kSetPeer;
    request->uid = options.peer->uid;
    request->gid = options.peer->gid;
  }
  return request;
}

Result<broker::Request> unix_listener(const Address& address, const ListenOptions& options) {
  auto request = unix_request(broker::Op::UnixListen, address, options.type, options.refuse_fds);
  if (!request) return request;
  if (options.mode > 0777) return fail("mode", EINVAL);
  const bool at_path = request->name_size == 0;
  if (at_path && options.make_parents) request->flags |= broker::kMakeParents;
  if (at_path && options.replace) {
    request->flags |= broker::kReplace;
    request->bound.file = *options.replace;
  }
  request->uid = options.owner ? options.owner->uid : broker::kNoChange;
  request->gid = options.owner ? options.owner->gid : broker::kNoChange;
  request->mode = options.mode;
  request->backlog = options.backlog;
  return request;
}

Result<broker::Request> unix_removal(const BoundPath& bound) {
  assert(bound.made.parents <= broker::kMostParents);
  auto request = unix_request(broker::Op::UnixRemove, bound.path, SocketType::Stream, false);
  if (request) request->bound = bound.made;
  return request;
}

namespace {

/// @param type such as "net"
Result<UniqueFd> open_in_proc(pid_t pid, const char* name, int flags) {
  const std::string path = "/proc/" + std::to_string(pid) + "/" + name;
  UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (!fd.valid()) return fail("open");
  return fd;
}

/// @param name such as "ns/net"
/// @return the namespace, or an invalid descriptor if it is that of this process
Result<UniqueFd> unless_own(Result<UniqueFd> ns, const char* name) {
  if (!ns) return ns;
  struct stat own {};
  const auto inode = namespace_inode(ns->get());
  if (!inode) return std::unexpected(inode.error());
  if (::stat((std::string("/proc/self/") + name).c_str(), &own) != 0) return fail("stat");
  if (*inode == own.st_ino) ns->reset();
  return ns;
}

UniqueFd copy_of(const UniqueFd& fd) {
  return UniqueFd(fd.valid() ? ::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0) : -1);
}

bool is_same_ns(const UniqueFd& a, const UniqueFd& b) {
  if (!a.valid() || !b.valid()) return a.valid() == b.valid();
  return namespace_inode(a.get()).value_or(0) == namespace_inode(b.get()).value_or(1);
}

}  // namespace

Result<PathPlace> PathPlace::of_container(pid_t pid, int pidfd) {
  // Opening the link as O_PATH follows it to a folder that the kernel has at hand; its file system
  // is not called.
  auto root = open_in_proc(pid, "root", O_PATH | O_DIRECTORY);
  auto userns = unless_own(open_in_proc(pid, "ns/user", O_RDONLY), "ns/user");
  auto netns = unless_own(open_in_proc(pid, "ns/net", O_RDONLY), "ns/net");
  if (has_exited(pidfd)) return fail("open", ESRCH);
  for (const auto* opened : {&root, &userns, &netns}) {
    if (!*opened) return std::unexpected(opened->error());
  }
  PathPlace place{
      .root = std::move(*root), .userns = std::move(*userns), .netns = std::move(*netns)};
  if (place.netns.valid()) {
    // Without permission its names cannot be used; the broker says so when that is requested.
    auto owner = unless_own(owning_userns(place.netns.get()), "ns/user");
    if (owner) place.netns_userns = std::move(*owner);
  }
  return place;
}

Result<PathPlace> PathPlace::of_host() {
  UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return fail("open");
  PathPlace place;
  place.root = std::move(root);
  place.home = broker::Home::HostPaths;
  return place;
}

struct PathCall::Request {
  broker::Request request;
  std::optional<Error> invalid;            ///< why it is not sent
  std::shared_ptr<const PathPlace> place;  ///< its descriptors are borrowed by the client
  std::shared_ptr<BrokerClient> client;
  UniqueFd kept;                 ///< UnixRemove: the bound socket
  BrokerClient::ReplyDone done;  ///< empty once cancelled
  BrokerCall call;
};

PathCall::~PathCall() {
  if (const auto request = request_.lock()) request->done = nullptr;
}

/// Starts the brokers of a place and counts those that do not exit.
class PathBroker::Launcher final : public BrokerLauncher {
 public:
  Launcher(std::shared_ptr<BrokerLauncher> launcher, Discard discard)
      : launcher_(std::move(launcher)), discard_(std::move(discard)) {}

  Result<BrokerProcess> launch() override {
    if (stuck().size() >= kMostStuck) return fail("start of portfwd-broker", EBUSY);
    return launcher_->launch();
  }
  [[nodiscard]] Duration join_timeout() const override { return launcher_->join_timeout(); }

  void discard(BrokerProcess process) override {
    if (process.pidfd.valid()) killed_.push_back({process.pid, copy_of(process.pidfd)});
    // A reply with a socket may be on its way.
    if (expected_sockets > 0) discard_socket(std::move(process.socket));
    launcher_->discard(std::move(process));
  }

  void discard_socket(UniqueFd socket) {
    if (discard_ && socket.valid()) discard_(std::move(socket));
  }

  [[nodiscard]] std::vector<pid_t> stuck() {
    std::erase_if(killed_, [](const Killed& k) { return has_exited(k.pidfd.get()); });
    std::vector<pid_t> pids;
    for (const Killed& killed : killed_) pids.push_back(killed.pid);
    return pids;
  }

  std::size_t expected_sockets = 0;  ///< requests for a socket that have not been answered

 private:
  struct Killed {
    pid_t pid = 0;
    UniqueFd pidfd;
  };
  std::shared_ptr<BrokerLauncher> launcher_;
  Discard discard_;
  std::vector<Killed> killed_;
};

PathBroker::PathBroker(EventLoop& loop, std::shared_ptr<BrokerLauncher> launcher, PathPlace place,
                       Discard discard)
    : loop_(loop),
      launcher_(std::make_shared<Launcher>(std::move(launcher), std::move(discard))),
      place_(std::make_shared<const PathPlace>(std::move(place))),
      refuse_(loop, [this] { refuse_invalid(); }),
      idle_(loop, [this] { end_if_idle(); }) {}

PathBroker::~PathBroker() = default;

void PathBroker::move_to(PathPlace place) {
  // Requests in progress own their broker as well.
  if (!is_same_ns(place.userns, place_->userns)) paths_.reset();
  if (!is_same_ns(place.netns_userns, place_->netns_userns)) names_.reset();
  place_ = std::make_shared<const PathPlace>(std::move(place));
}

PathCall PathBroker::connect(const Address& address, const ConnectOptions& options,
                             OnConnected done) {
  assert(done != nullptr);
  auto on_reply = [done = std::move(done)](Result<BrokerClient::Sockets> sockets,
                                           const broker::Reply& reply) mutable {
    if (!sockets) return done(std::unexpected(PathFailure{sockets.error(), reply.found}));
    done(std::move(sockets->front()));
  };
  return PathCall(send(unix_connection(address, options), std::move(on_reply)));
}

PathCall PathBroker::listen(const Address& address, const ListenOptions& options, OnBound done) {
  assert(done != nullptr);
  const auto* path = std::get_if<UnixPath>(&address);
  auto on_reply = [done = std::move(done), path = path != nullptr ? *path : UnixPath{}](
                      Result<BrokerClient::Sockets> sockets, const broker::Reply& reply) mutable {
    if (!sockets) return done(std::unexpected(PathFailure{sockets.error(), reply.found}));
    done(BoundUnixSocket{std::move(sockets->front()), {std::move(path), reply.bound}});
  };
  return PathCall(send(unix_listener(address, options), std::move(on_reply)));
}

void PathBroker::remove(const BoundPath& bound, UniqueFd socket, OnRemoved done) {
  auto on_reply = [done = std::move(done)](const Result<BrokerClient::Sockets>& sockets,
                                           const broker::Reply& reply) mutable {
    if (!done) return;
    if (!sockets) return done(std::unexpected(PathFailure{sockets.error(), reply.found}));
    done({});
  };
  send(unix_removal(bound), std::move(on_reply), std::move(socket));
}

std::shared_ptr<PathBroker::Request> PathBroker::send(const Result<broker::Request>& request,
                                                      OnReply done, UniqueFd kept) {
  idle_.disarm();
  const auto sent = std::make_shared<Request>();
  sent->done = std::move(done);
  sent->kept = std::move(kept);
  requests_.push_back(sent);
  const bool no_path = request && request->name_size == 0 && !place_->root.valid();
  if (!request || no_path) {
    sent->invalid = no_path ? Error{EOPNOTSUPP, "path"} : request.error();
    refuse_.arm_now();
    return sent;
  }
  sent->request = *request;
  sent->place = place_;
  sent->client = client_for(*request);
  if (request->op != broker::Op::UnixRemove) ++launcher_->expected_sockets;
  const int fd = request->name_size > 0 ? place_->netns.get() : place_->root.get();
  sent->call = sent->client->call(*request, fd,
                                  [this, &completed = *sent](Result<BrokerClient::Sockets> sockets,
                                                             const broker::Reply& reply) {
                                    const auto it = std::ranges::find(
                                        requests_, &completed, &std::shared_ptr<Request>::get);
                                    assert(it != requests_.end());
                                    const auto owned = std::move(*it);
                                    requests_.erase(it);
                                    on_reply(owned, std::move(sockets), reply);
                                  });
  return sent;
}

void PathBroker::on_reply(const std::shared_ptr<Request>& request,
                          Result<BrokerClient::Sockets> sockets, const broker::Reply& reply) {
  if (request->request.op != broker::Op::UnixRemove) {
    assert(launcher_->expected_sockets > 0);
    --launcher_->expected_sockets;
  }
  launcher_->discard_socket(std::move(request->kept));
  if (requests_.empty()) idle_.arm_after(kIdle);
  if (!request->done) {
    if (sockets) on_late_reply(*request, std::move(*sockets), reply);
    return;
  }
  std::exchange(request->done, nullptr)(std::move(sockets), reply);
}

/// Undoes what a broker has done for a request that was cancelled.
void PathBroker::on_late_reply(const Request& request, BrokerClient::Sockets sockets,
                               const broker::Reply& reply) {
  if (sockets.empty()) return;
  if (reply.bound.file == broker::FileId{}) {
    launcher_->discard_socket(std::move(sockets.front()));
  } else {
    remove({UnixPath{request.request.path}, reply.bound}, std::move(sockets.front()));
  }
}

std::shared_ptr<BrokerClient> PathBroker::client_for(const broker::Request& request) {
  const bool enters_netns = request.name_size > 0 && place_->netns.valid();
  auto& client = enters_netns ? names_ : paths_;
  if (!client) {
    client = std::make_shared<BrokerClient>(
        loop_, launcher_, copy_of(enters_netns ? place_->netns_userns : place_->userns),
        enters_netns ? broker::Home::Names : place_->home);
  }
  return client;
}

void PathBroker::refuse_invalid() {
  std::list<std::shared_ptr<Request>> invalid;
  for (auto it = requests_.begin(); it != requests_.end();) {
    const auto here = it++;
    if ((*here)->invalid) invalid.splice(invalid.end(), requests_, here);
  }
  if (requests_.empty()) idle_.arm_after(kIdle);
  for (const auto& request : invalid) {
    if (request->done) request->done(std::unexpected(*request->invalid), broker::Reply());
  }
}

void PathBroker::end_if_idle() {
  if (!requests_.empty()) return;
  paths_.reset();
  names_.reset();
}

std::vector<pid_t> PathBroker::pids() const {
  std::vector<pid_t> pids;
  for (const auto* client : {&paths_, &names_}) {
    if (*client && (*client)->pid() != 0) pids.push_back((*client)->pid());
  }
  return pids;
}

std::vector<pid_t> PathBroker::stuck() const {
  return launcher_->stuck();
}

}  // namespace portfwd
