// A file system whose server does or does not answer, and a process whose memory map stays locked
// while it does not. Another user or a container can do this to any process that reads
// /proc/PID/cmdline or one of their files. Raw FUSE protocol, no library. Both processes die with
// the test. The code under test is not known here.
//
// The mount is in a user and mount namespace of the process's own, where only opening the device
// needs a privilege: /dev/fuse must be 0666, as udev's rules make it, or the test must run as root.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <utility>

#include "base/unique_fd.h"
#include "support/own_namespaces.h"
#include "support/temp_dir.h"

namespace portfwd::testing_support {

/// Serves one file, "f", of 64 KiB of zeros. Answers everything except WRITE, and LOOKUP of a file
/// named "hang".
class FuseServer {
 public:
  /// @param told receives a byte with the first request that is not answered
  FuseServer(int device, int told) : device_(device), told_(told) {}

  [[noreturn]] void serve() {
    alignas(fuse_in_header) static std::array<char, 1 << 18> request;
    for (;;) {
      const ssize_t got = ::read(device_, request.data(), request.size());
      if (got < 0 && (errno == EINTR || errno == ENOENT)) continue;
      if (got < static_cast<ssize_t>(sizeof(fuse_in_header))) ::_exit(0);
      fuse_in_header header{};
      std::memcpy(&header, request.data(), sizeof header);
      handle(header, request.data() + sizeof header);
    }
  }

 private:
  static constexpr std::uint64_t kFile = 2;
  static constexpr std::uint64_t kSize = 65536;

  void handle(const fuse_in_header& header, const char* body) {
    switch (header.opcode) {
      case FUSE_INIT: {
        fuse_init_out out{};
        out.major = FUSE_KERNEL_VERSION;
        out.minor = 31;
        out.max_write = 4096;
        return answer(header, &out, sizeof out);
      }
      case FUSE_LOOKUP: {
        if (std::strcmp(body, "hang") == 0) return stay_silent();
        if (std::strcmp(body, "f") != 0) return refuse(header, ENOENT);
        fuse_entry_out out{};
        out.nodeid = kFile;
        out.attr = attributes(kFile);
        return answer(header, &out, sizeof out);
      }
      case FUSE_GETATTR: {
        fuse_attr_out out{};
        out.attr = attributes(header.nodeid);
        return answer(header, &out, sizeof out);
      }
      case FUSE_OPEN: {
        fuse_open_in in{};
        std::memcpy(&in, body, sizeof in);
        fuse_open_out out{};
        out.open_flags = (in.flags & O_ACCMODE) == O_RDONLY ? FOPEN_DIRECT_IO : 0;
        return answer(header, &out, sizeof out);
      }
      case FUSE_READ: {
        static const std::array<char, kSize> zeros{};
        fuse_read_in in{};
        std::memcpy(&in, body, sizeof in);
        return answer(header, zeros.data(),
                      in.offset < kSize ? std::min<std::size_t>(in.size, kSize - in.offset) : 0);
      }
      case FUSE_WRITE:
        return stay_silent();
      case FUSE_FORGET:
      case FUSE_BATCH_FORGET:
      case FUSE_INTERRUPT:
        return;  // these expect no answer
      default:
        return refuse(header, ENOSYS);
    }
  }

  static fuse_attr attributes(std::uint64_t node) {
    fuse_attr attr{};
    attr.ino = node;
    attr.mode = node == kFile ? S_IFREG | 0666 : S_IFDIR | 0777;
    attr.nlink = 1;
    attr.size = node == kFile ? kSize : 0;
    return attr;
  }
  void stay_silent() const {
    const char byte = 'x';
    (void)!::write(told_, &byte, 1);
  }
  void refuse(const fuse_in_header& to, int error) const { send(to, -error, nullptr, 0); }
  void answer(const fuse_in_header& to, const void* body, std::size_t size) const {
    send(to, 0, body, size);
  }
  void send(const fuse_in_header& to, int error, const void* body, std::size_t size) const {
    fuse_out_header header{};
    header.len = static_cast<std::uint32_t>(sizeof header + size);
    header.error = error;
    header.unique = to.unique;
    std::array<iovec, 2> parts{iovec{&header, sizeof header}, iovec{const_cast<void*>(body), size}};
    (void)!::writev(device_, parts.data(), size == 0 ? 1 : 2);
  }

  int device_;
  int told_;
};

/// A process in user, mount and network namespaces of its own, with a FUSE mount in it.
class HangingFuse {
 public:
  enum class What {
    MemoryMap,  ///< its memory map is locked, so that its cmdline and environ cannot be read
    Mount,      ///< it only waits: a lookup of "hang" below the mount waits for ever
  };
  static constexpr uid_t kSameUser = ~uid_t{0};

  /// Returns once that is the case. @param uid another user's, for tests that run as root
  explicit HangingFuse(What what, uid_t uid = kSameUser) {
    std::array<int, 2> told{};
    EXPECT_EQ(::pipe2(told.data(), O_CLOEXEC), 0);
    told_ = UniqueFd(told[0]);
    UniqueFd tell(told[1]);
    const std::string device = device_node();
    ::chmod(folder_.path().c_str(), 0777);
    pid_ = ::fork();
    if (pid_ == 0) run(what, uid, device, folder_.path() + "/mnt", tell.get());
    tell.reset();
    char first = 0;
    const bool begun = ::read(told_.get(), &first, 1) == 1;
    EXPECT_TRUE(begun && first == (what == What::Mount ? 'm' : 'x'))
        << "no FUSE mount: " << (begun ? std::strerror(first) : "its process has ended")
        << " (the test needs " << device << " and unprivileged user namespaces: chmod 666 "
        << device << ")";
  }
  HangingFuse(const HangingFuse&) = delete;
  HangingFuse& operator=(const HangingFuse&) = delete;
  ~HangingFuse() { end(); }

  [[nodiscard]] pid_t pid() const { return pid_; }
  /// Where the mount is in the process's own mount namespace.
  [[nodiscard]] std::string mount() const { return folder_.path() + "/mnt"; }
  /// Waits until a process waits for the server.
  bool wait_for_silence() const {
    pollfd waits{told_.get(), POLLIN, 0};
    char byte = 0;
    return ::poll(&waits, 1, 20000) == 1 && ::read(told_.get(), &byte, 1) == 1;
  }

  /// Ends the server, which releases every process that waits for it.
  void end() {
    if (pid_ <= 0) return;
    ::kill(-pid_, SIGKILL);  // the server is in its process group
    ::waitpid(std::exchange(pid_, -1), nullptr, 0);
  }

 private:
  /// Creates a device node when root may not share the one in /dev.
  [[nodiscard]] std::string device_node() const {
    if (::access("/dev/fuse", R_OK | W_OK) == 0 && (mode_of("/dev/fuse") & 0006) == 0006) {
      return "/dev/fuse";
    }
    const std::string made = folder_.path() + "/fuse";
    if (::mknod(made.c_str(), S_IFCHR | 0666, ::makedev(10, 229)) != 0) return "/dev/fuse";
    ::chmod(made.c_str(), 0666);
    return made;
  }
  static mode_t mode_of(const char* path) {
    struct stat about {};
    return ::stat(path, &about) == 0 ? about.st_mode : 0;
  }

  [[noreturn]] static void fail(int told, int error) {
    const char code = static_cast<char>(error);
    (void)!::write(told, &code, 1);
    ::_exit(1);
  }

  [[noreturn]] static void run(What what, uid_t uid, const std::string& device,
                               const std::string& mount, int told) {
    ::setpgid(0, 0);
    if (uid != kSameUser && ::setresuid(uid, uid, uid) != 0) fail(told, errno);
    ::prctl(PR_SET_DUMPABLE, 1);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::mkdir(mount.c_str(), 0777);
    if (int error = enter_own_namespaces(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET); error != 0) {
      fail(told, error);
    }
    UniqueFd fuse(::open(device.c_str(), O_RDWR | O_CLOEXEC));
    if (!fuse.valid()) fail(told, errno);
    const std::string options =
        "fd=" + std::to_string(fuse.get()) + ",rootmode=40000,user_id=0,group_id=0";
    if (::mount("fuse", mount.c_str(), "fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0) {
      fail(told, errno);
    }
    if (::fork() == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      FuseServer(fuse.get(), told).serve();
    }
    fuse.reset();  // so that the connection ends with the server
    if (what == What::MemoryMap) hold_memory_map(mount + "/f", told);
    const char ready = 'm';
    (void)!::write(told, &ready, 1);
    for (;;) ::pause();
  }

  /// fuse_file_mmap() writes back what is dirty and waits for the server, with this process's
  /// mmap_lock held for writing. Source: fs/fuse/file.c, fuse_file_mmap.
  static void hold_memory_map(const std::string& file, int told) {
    constexpr std::size_t kSize = 65536;
    const int direct = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);  // first: it invalidates
    const int cached = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
    if (direct < 0 || cached < 0) fail(told, errno);
    void* page = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, cached, 0);
    if (page == MAP_FAILED) fail(told, errno);
    static_cast<volatile char*>(page)[0] = 1;
    (void)::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, direct, 0);
    fail(told, EIO);  // the mmap should have blocked
  }

  TempDir folder_;
  UniqueFd told_;
  pid_t pid_ = -1;
};

}  // namespace portfwd::testing_support
