// Arbitrary requests of a daemon to a broker: really received, checked and executed, in namespaces
// of the fuzzer. Input: the Home of the broker (one byte), then messages, each as the descriptors
// to send with it (one byte: 0 none, 1 a root, 2 a network namespace, 3 too many), a length (two
// bytes, little endian) and the bytes. A file of another owner is never replaced or removed.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <span>

#include "base/unique_fd.h"
#include "broker/client/broker_launcher.h"
#include "broker/serve.h"
#include "support/own_namespaces.h"

namespace {

using portfwd::UniqueFd;

constexpr const char* kRoot = "/mnt";  // a fresh tmpfs in the fuzzer's own mount namespace
constexpr int kMostMessages = 32;
constexpr unsigned kHomes = static_cast<unsigned>(portfwd::broker::kLastHome) + 1;

struct Things {
  UniqueFd root{::open(kRoot, O_PATH | O_DIRECTORY | O_CLOEXEC)};
  UniqueFd netns{::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)};
};

void send_all(int socket, std::span<const std::uint8_t> input, const Things& things) {
  const int fds[] = {things.root.get(), things.netns.get()};
  for (int i = 0; i < kMostMessages && input.size() >= 3; ++i) {
    const unsigned kind = input[0] % 4;
    const std::size_t wanted = input[1] + std::size_t{256} * input[2];
    input = input.subspan(3);
    const std::size_t size = std::min(wanted, input.size());
    const std::span<const int> along = kind == 0   ? std::span<const int>()
                                       : kind == 3 ? std::span<const int>(fds)
                                                   : std::span<const int>(fds + kind - 1, 1);
    if (!portfwd::send_with_fds(socket, std::as_bytes(input.first(size)), along)) return;  // full
    input = input.subspan(size);
  }
}

constexpr const char* kKept[]{"folder", "folder/up", "folder/foreign", "up", "pipe"};

/// Removes what the broker has made. What it did not make must still be there.
void clean_up() {
  const std::filesystem::path root(kRoot);
  for (const char* kept : kKept) {
    if (!std::filesystem::exists(std::filesystem::symlink_status(root / kept))) std::abort();
  }
  for (const auto& folder : {root, root / "folder"}) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::filesystem::path name = entry.path().lexically_relative(root);
      if (std::ranges::find(kKept, name) == std::end(kKept)) {
        std::filesystem::remove_all(entry.path());
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  constexpr int kOwn = CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS;
  const bool alone = portfwd::testing_support::enter_own_namespaces(kOwn) == 0;
  if (!alone || ::mount("none", kRoot, "tmpfs", 0, nullptr) != 0) {
    std::perror("this target needs unprivileged user namespaces");
    return 1;
  }
  const std::filesystem::path root(kRoot);
  std::filesystem::create_directory(root / "folder");
  std::filesystem::create_symlink("../../../..", root / "up");
  std::filesystem::create_symlink("../up", root / "folder" / "up");
  std::filesystem::create_directory(root / "folder" / "foreign");
  return ::mkfifo((root / "pipe").c_str(), 0666) == 0 ? 0 : 1;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Things things;
  if (size == 0) return 0;
  portfwd::broker::Joined joined;
  joined.home = static_cast<portfwd::broker::Home>(data[0] % kHomes);
  joined.ids = {0, 0, true};
  joined.netns = UniqueFd(::fcntl(things.netns.get(), F_DUPFD_CLOEXEC, 0));
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    std::abort();
  }
  const UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  send_all(ours.get(), {data + 1, size - 1}, things);
  portfwd::broker::serve(portfwd::broker::Channel(theirs.get()), joined);
  clean_up();
  return 0;
}
