#include "relay/unix_binding.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cassert>
#include <utility>

namespace portfwd {

namespace {

/// A path or name that is bound. Its destruction removes the path.
class UnixBinding final : public PlaceBinding {
 public:
  /// A copy of its socket is kept open, so that no other file gets its inode number.
  UnixBinding(PathBroker& broker, Address address, const ListenOptions& options, BoundUnixSocket& made,
              OnUnixMade on_made)
      : broker_(broker),
        address_(std::move(address)),
        options_(options),
        bound_(std::move(made.bound)),
        on_made_(std::move(on_made)) {
    keep(made.socket.get());
  }
  UnixBinding(const UnixBinding&) = delete;
  UnixBinding& operator=(const UnixBinding&) = delete;
  ~UnixBinding() override {
    call_ = {};
    if (!bound_.path.path.empty()) broker_.remove(bound_, std::move(socket_));
  }

  void renew(OnSocket on_socket) override {
    ListenOptions options = options_;
    if (!bound_.path.path.empty()) options.replace = bound_.made.file;
    call_ = broker_.listen(address_, options,
                           [this, on_socket = std::move(on_socket)](auto made) mutable {
                             on_renewed(std::move(made), std::move(on_socket));
                           });
  }

  [[nodiscard]] broker::FileId file() const { return bound_.made.file; }

 private:
  /// Calls back last: this may be destroyed then.
  void on_renewed(std::expected<BoundUnixSocket, PathFailure> made, OnSocket on_socket) {
    if (!made) return on_socket(std::unexpected(made.error().error));
    bound_.made.file = made->bound.made.file;  // the folders are still those of the first socket
    keep(made->socket.get());
    on_socket(std::move(made->socket));
  }

  void keep(int socket) {
    if (on_made_) on_made_(socket);
    socket_ = UniqueFd(::fcntl(socket, F_DUPFD_CLOEXEC, 0));
  }

  PathBroker& broker_;
  Address address_;
  ListenOptions options_;
  BoundPath bound_;
  OnUnixMade on_made_;
  UniqueFd socket_;
  PathCall call_;
};

}  // namespace

PathCall bind_unix(PathBroker& broker, const Address& address, const ListenOptions& options,
                   OnUnixMade on_made, OnUnixBound on_bound) {
  return broker.listen(
      address, options,
      [&broker, address, again = options, on_made = std::move(on_made),
       on_bound = std::move(on_bound)](std::expected<BoundUnixSocket, PathFailure> made) mutable {
        if (!made) return on_bound(std::unexpected(made.error()));
        again.replace.reset();
        auto binding =
            std::make_unique<UnixBinding>(broker, address, again, *made, std::move(on_made));
        on_bound(BoundSocket{address, std::move(made->socket), std::move(binding)});
      });
}

broker::FileId file_of(const BoundSocket& bound) {
  assert(bound.binding != nullptr);
  return static_cast<const UnixBinding&>(*bound.binding).file();
}

namespace {

std::string_view name_of(broker::FileKind kind) {
  switch (kind) {
    case broker::FileKind::None:
      return "";
    case broker::FileKind::Socket:
      return "another socket";
    case broker::FileKind::Regular:
      return "a regular file";
    case broker::FileKind::Folder:
      return "a folder";
    case broker::FileKind::Link:
      return "a symbolic link";
    case broker::FileKind::Fifo:
      return "a FIFO";
    case broker::FileKind::Device:
      return "a device";
  }
  return "";
}

}  // namespace

std::string text_of(const PathFailure& failure) {
  if (failure.found == broker::FileKind::None) return failure.error.text();
  return fmt::format("{} is there", name_of(failure.found));
}

}  // namespace portfwd
