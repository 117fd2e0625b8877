// The functions of a broker for Unix sockets, called directly, in a folder that acts as the root of
// a container, with another one beside it that acts as the host.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>

#include "broker/client/path_broker.h"
#include "broker/unix_sockets.h"
#include "support/temp_dir.h"

namespace portfwd::testing_support {

namespace fs = std::filesystem;
using broker::FileId;
using broker::FileKind;

inline FileId id_of(const std::string& path) {
  struct stat about {};
  if (::lstat(path.c_str(), &about) != 0) return {};
  return {about.st_dev, about.st_ino};
}

inline UniqueFd socket_at(const std::string& path, bool listens = true) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return {};
  EXPECT_TRUE(!listens || ::listen(socket.get(), 4) == 0);
  return socket;
}

inline int connect_to(const std::string& path) {
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  const bool ok =
      ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  return ok ? 0 : errno;
}

inline bool has_client(const UniqueFd& listener) {
  return UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)).valid();
}

/// A folder that acts as the root of a container, and one beside it that acts as the host.
struct UnixSocketsTest : testing::Test {
  UnixSocketsTest() {
    fs::create_directories(inside("/run"));
    fs::create_directory(host(""));
    root = UniqueFd(::open(inside("").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    before = ::umask(0);
  }
  ~UnixSocketsTest() override { ::umask(before); }
  [[nodiscard]] std::string inside(const std::string& path) const {
    return dir.path() + "/root" + path;
  }
  [[nodiscard]] std::string host(const std::string& path) const {
    return dir.path() + "/host" + path;
  }

  struct Listened {
    int error = 0;
    FileKind found{};
    UniqueFd socket;
    BoundPath bound;
  };
  [[nodiscard]] Listened listen(const std::string& path, const ListenOptions& options = {}) const {
    const auto request = unix_listener(UnixPath{path}, options);
    if (!request) return {.error = request.error().code};
    broker::FdBatch made;
    broker::FileReport file;
    const auto outcome = sockets.listen(*request, root.get(), made, file);
    EXPECT_EQ(made.size(), outcome.ok() ? 1u : 0u);
    EXPECT_TRUE(outcome.ok() || file.bound == broker::BoundFile{});
    Listened result{outcome.error, file.found, {}, {UnixPath{path}, file.bound}};
    if (made.size() == 1) result.socket = UniqueFd(::fcntl(made.data()[0], F_DUPFD_CLOEXEC, 0));
    return result;
  }
  [[nodiscard]] int connect(const std::string& path, FileKind* found = nullptr) const {
    broker::FdBatch made;
    broker::FileReport file;
    const auto request = unix_connection(UnixPath{path}, {}).value();
    const auto outcome = sockets.connect(request, root.get(), made, file);
    if (found != nullptr) *found = file.found;
    return outcome.error;
  }
  [[nodiscard]] int remove(const BoundPath& bound, FileKind* found = nullptr) const {
    broker::FileReport file;
    const auto outcome = sockets.remove(unix_removal(bound).value(), root.get(), file);
    if (found != nullptr) *found = file.found;
    return outcome.error;
  }
  /// All paths in a folder inside, sorted.
  [[nodiscard]] std::set<std::string> entries(const std::string& folder = "/run") const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(inside(folder))) {
      names.insert(entry.path().filename());
    }
    return names;
  }
  using Names = std::set<std::string>;
  /// Number of paths inside that lead to the file.
  [[nodiscard]] int count_of(const FileId& id) const {
    int found = 0;
    for (const auto& entry : fs::recursive_directory_iterator(inside(""))) {
      found += id_of(entry.path()) == id ? 1 : 0;
    }
    return found;
  }

  TempDir dir;
  UniqueFd root;
  mode_t before = 0;
  const broker::UnixSockets sockets{{::getuid(), ::getgid(), true}, -1};
};

}  // namespace portfwd::testing_support
