#include "access/helper_start.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>

#include "broker/client/fd_passing.h"

namespace portfwd {

namespace {

constexpr Duration kAnswer = std::chrono::seconds(10);  // of an engine that has much to do

/// Whether the peer of a Unix socket runs as us. Source: unix(7), SO_PEERCRED.
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
    give_up(fmt::format("{}: {}", spec_.socket, listens.error().text()));
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
  ::unlink(spec_.socket.c_str());  // of a daemon that was killed
  const auto* at = reinterpret_cast<const sockaddr*>(&address);
  if (::bind(listening_.get(), at, sizeof address) != 0) return fail("bind");
  if (::listen(listening_.get(), 1) != 0) return fail("listen");
  return source_.watch(EPOLLIN);
}

void HelperStart::find_image() {
  ask(HttpRequest::Method::Get, helper::inspect_path(spec_.container_id), "", &HelperStart::create);
}

void HelperStart::ask(HttpRequest::Method method, std::string path, std::string body, Next next) {
  HttpRequest request{.socket = engine(),
                      .method = method,
                      .path = std::move(path),
                      .body = std::move(body),
                      .deadline = kAnswer};
  call_ = parts_.http.ask(std::move(request), [this, next](Result<HttpAnswer> answer) {
    const bool unknown = answer && answer->status == 404 && spec_.image_id.empty();
    if (unknown && parts_.engines.size() > 1) {
      parts_.engines.erase(parts_.engines.begin());  // such as a rootless one
      return find_image();
    }
    if (!answer) {
      return give_up(fmt::format("{} does not answer: {}", engine(), answer.error().text()));
    }
    if (answer->status >= 300) {
      return give_up("the engine refused: " + helper::message_of(answer->body));
    }
    (this->*next)(answer->body);
  });
}

void HelperStart::create(const std::string& inspected) {
  spec_.image_id = helper::image_of(inspected);
  if (spec_.image_id.empty()) return give_up("the engine names no image of the container");
  ask(HttpRequest::Method::Post, helper::create_path(), helper::creation(spec_),
      &HelperStart::start);
}

void HelperStart::start(const std::string& created) {
  id_ = helper::id_of(created);
  if (id_.empty()) return give_up("the engine names no new container");
  ask(HttpRequest::Method::Post, helper::start_path(id_), "", &HelperStart::started);
}

/// Whoever connects must be this user; the socket is in a folder of his own, too.
void HelperStart::on_io(IoSource&, std::uint32_t) {
  const UniqueFd peer(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!peer.valid() || !is_ours(peer.get())) return;
  const std::array<std::byte, 1> byte{};
  if (!send_with_fds(peer.get(), byte, std::array{end_.get()})) return;
  source_.disarm();
  end_.reset();
}

/// The other end of the pair tells the broker's client.
void HelperStart::give_up(std::string why) {
  parts_.failed(std::move(why));
  source_.disarm();
  end_.reset();
}

}  // namespace portfwd
