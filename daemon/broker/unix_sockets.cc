
#include "broker/unix_sockets.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <string_view>

#include "broker/files.h"
#include "broker/sandbox.h"
#include "broker/serve.h"

namespace portfwd::broker {

namespace {

constexpr int kPassRights = 83;  // SO_PASSRIGHTS, Linux 6.16
constexpr int kMostTries = 8;    // of names and races
constexpr mode_t kStageMode = 0700;
constexpr mode_t kParentMode = 0755;
constexpr const char* kInStage = "s";

/// Opens a path inside the root. Facts: OpenInRoot.*.
UniqueFd open_inside(int root, const char* path, std::uint64_t flags) {
  return open_by_kernel(root, path, flags, RESOLVE_IN_ROOT);
}

constexpr std::uint64_t kFolder = O_PATH | O_DIRECTORY;
constexpr std::uint64_t kEntry = O_PATH | O_NOFOLLOW;

FileKind kind_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFSOCK:
      return FileKind::Socket;
    case S_IFREG:
      return FileKind::Regular;
    case S_IFDIR:
      return FileKind::Folder;
    case S_IFLNK:
      return FileKind::Link;
    case S_IFIFO:
      return FileKind::Fifo;
    default:
      return FileKind::Device;
  }
}

/// A file that is held open, so that its inode number is not used for another one.
struct Entry {
  UniqueFd fd;
  FileKind kind = FileKind::None;
  FileId id;
  uid_t owner = 0;
  mode_t mode = 0;

  /// @return with kind None if it cannot be opened; then errno is set
  static Entry open(int folder, const char* name, std::uint64_t flags = kEntry) {
    Entry entry;
    entry.fd = open_inside(folder, name, flags);
    struct stat about {};
    if (!entry.fd.valid() || ::fstat(entry.fd.get(), &about) != 0) return {};
    entry.kind = kind_of(about.st_mode);
    entry.id = {about.st_dev, about.st_ino};
    entry.owner = about.st_uid;
    entry.mode = about.st_mode & 07777;
    return entry;
  }
  [[nodiscard]] bool is(FileKind wanted, const FileId& its_id) const {
    return kind == wanted && id == its_id;
  }
};

int rename_in(int from, const char* name, int to, const char* new_name, unsigned flags) {
  return static_cast<int>(::syscall(SYS_renameat2, from, name, to, new_name, flags));
}

/// Renames a file that this program has bound or made, or exchanges it. In a folder with the sticky
/// bit only its owner may do that, so a file that was given to another user is taken back first.
int rename_own(const Entry& own, uid_t self, int from, const char* name, int to,
               const char* new_name, unsigned flags) {
  if (rename_in(from, name, to, new_name, flags) == 0) return 0;
  const bool given_away = errno == EPERM && own.owner != self;
  if (!given_away || ::fchownat(own.fd.get(), "", self, kNoChange, AT_EMPTY_PATH) != 0) return -1;
  return rename_in(from, name, to, new_name, flags);
}

/// A random name: ".portfwd-" and 16 digits.
class RandomName {
 public:
  RandomName() {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::uint64_t random = 0;
    (void)::syscall(SYS_getrandom, &random, sizeof random, 0);  // never fails for so few bytes
    std::size_t size = kPrefix.copy(text_.data(), kPrefix.size());
    for (; size < text_.size() - 1; random >>= 4) text_[size++] = kDigits[random & 15];
  }
  [[nodiscard]] const char* get() const { return text_.data(); }

 private:
  static constexpr std::string_view kPrefix = ".portfwd-";
  std::array<char, kPrefix.size() + 16 + 1> text_{};
};

/// "/proc/self/fd/N" or "/proc/self/fd/N/s" as a socket address.
class DescriptorAddress {
 public:
  explicit DescriptorAddress(int fd, std::string_view rest = {}) {
    address_.sun_family = AF_UNIX;
    char* const begin = address_.sun_path;
    char* const end = begin + sizeof address_.sun_path;
    char* at = begin + kBefore.copy(begin, kBefore.size());
    at = std::to_chars(at, end, fd).ptr;
    if (rest.empty()) return;
    *at++ = '/';
    rest.copy(at, rest.size());
  }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address_); }
  static constexpr socklen_t kSize = sizeof(sockaddr_un);

 private:
  static constexpr std::string_view kBefore = "/proc/self/fd/";
  sockaddr_un address_{};
};

struct NameAddress {
  explicit NameAddress(const Request& request)
      : size(static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + request.name_size)) {
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, request.path, request.name_size);
  }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
  sockaddr_un address{};
  socklen_t size;
};

/// A path, split at its last slash; the directory keeps the slash.
struct Split {
  /// @param path has a slash and is shorter than kPathSize
  explicit Split(std::string_view path) {
    const std::size_t slash = path.rfind('/');
    path.copy(directory, slash + 1);
    path.substr(slash + 1).copy(name, path.size() - slash - 1);
  }
  [[nodiscard]] bool names_an_entry() const {
    const std::string_view text(name);
    return !text.empty() && text != "." && text != "..";
  }
  char directory[kPathSize]{};
  char name[kPathSize]{};
};

/// A folder of our own beside a path, in which a socket is made before it gets its name. The
/// destructor removes it, and the file in it if that is ours.
class Stage {
 public:
  explicit Stage(int folder) : folder_(folder) {}
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;
  ~Stage() {
    if (holds_own_) ::unlinkat(fd_.get(), kInStage, 0);
    if (made_) ::unlinkat(folder_, name_.get(), AT_REMOVEDIR);
  }

  /// @param self uid of this process
  Outcome make(uid_t self) {
    if (::mkdirat(folder_, name_.get(), kStageMode) != 0) return failed(Step::MakeFolder);
    made_ = true;
    Entry entry = Entry::open(folder_, name_.get(), kFolder | O_NOFOLLOW);
    if (entry.kind == FileKind::None) return failed(Step::MakeFolder);
    const bool own = entry.owner == self && (entry.mode & 0777) == kStageMode;
    if (!own) return {ESTALE, Step::MakeFolder};  // replaced by another user
    fd_ = std::move(entry.fd);
    return {};
  }

  /// Binds the socket in it and sets owner and mode of its path.
  Outcome bind(const Request& request, int socket) {
    const DescriptorAddress address(fd_.get(), kInStage);
    // bind() gives the path the socket's own mode, so it is never more permissive than requested.
    // Fact: UnixSocket.ThePathGetsTheModeOfTheSocket.
    if (::fchmod(socket, request.mode) != 0) return failed(Step::SetOption);
    if (::bind(socket, address.get(), DescriptorAddress::kSize) != 0) return failed(Step::Bind);
    own_ = Entry::open(fd_.get(), kInStage);
    holds_own_ = own_.kind == FileKind::Socket;
    if (!holds_own_) return {ESTALE, Step::Bind};
    if (request.uid == kNoChange && request.gid == kNoChange) return {};
    if (::fchownat(own_.fd.get(), "", request.uid, request.gid, AT_EMPTY_PATH) != 0) {
      return failed(Step::Chown);
    }
    own_.owner = request.uid == kNoChange ? own_.owner : request.uid;
    return {};
  }

  /// Gives the socket its name.
  /// @param found set to the kind of the file that has the name, if there is one
  Outcome place(const char* name, FileKind& found) {
    if (rename_in(fd_.get(), kInStage, folder_, name, RENAME_NOREPLACE) == 0) {
      holds_own_ = false;
      return {};
    }
    if (errno != EEXIST) return failed(Step::Rename);
    return in_the_way(Entry::open(folder_, name).kind, found);
  }

  /// Gives the socket the name of the socket `old`, which is removed.
  /// @return ENOENT: the name is free
  Outcome replace(const char* name, const FileId& old, uid_t self, FileKind& found) {
    const Entry present = Entry::open(folder_, name);
    if (present.kind == FileKind::None) return failed(Step::OpenPath);
    if (!present.is(FileKind::Socket, old)) return in_the_way(present.kind, found);
    if (rename_own(present, self, fd_.get(), kInStage, folder_, name, RENAME_EXCHANGE) != 0) {
      return failed(Step::Rename);
    }
    const Entry taken = Entry::open(fd_.get(), kInStage);
    holds_own_ = taken.is(FileKind::Socket, old);
    if (holds_own_) return {};
    return give_back(name, taken.kind, found);
  }

  [[nodiscard]] const FileId& own() const { return own_.id; }

 private:
  static Outcome in_the_way(FileKind kind, FileKind& found) {
    found = kind;
    return {kind == FileKind::Socket ? EADDRINUSE : EEXIST, Step::Bind};
  }

  /// Returns the file in the stage, which took the name just before the exchange. Our socket may
  /// have been replaced in turn; no file that is not ours is removed in any case, at worst one
  /// stays in the stage.
  Outcome give_back(const char* name, FileKind kind, FileKind& found) {
    if (rename_in(fd_.get(), kInStage, folder_, name, RENAME_EXCHANGE) == 0) {
      holds_own_ = Entry::open(fd_.get(), kInStage).is(FileKind::Socket, own_.id);
    } else {
      (void)rename_in(fd_.get(), kInStage, folder_, name, RENAME_NOREPLACE);
    }
    return in_the_way(kind, found);
  }

  int folder_;
  RandomName name_;
  UniqueFd fd_;
  Entry own_;
  bool made_ = false;
  bool holds_own_ = false;  ///< the file in it is our socket, or the one that it has replaced
};

/// Whether a folder has no entries. False on failure.
bool is_empty(int folder, const char* name) {
  const UniqueFd list = open_inside(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK);
  alignas(std::uint64_t) std::array<char, 512> entries;
  constexpr std::size_t kDots = 48;  // "." and "..", 24 bytes each; Source: getdents(2)
  std::size_t size = 0;
  for (;;) {
    const long got = ::syscall(SYS_getdents64, list.get(), entries.data(), entries.size());
    if (got <= 0) return got == 0;
    size += static_cast<std::size_t>(got);
    if (size > kDots) return false;
  }
}

/// Removes a socket or a folder if it is the one that is meant.
/// @param found set to the kind of another file that has the name
Outcome remove_own(int folder, const char* name, FileKind kind, const FileId& id, uid_t self,
                   FileKind& found) {
  const Entry present = Entry::open(folder, name);
  if (present.kind == FileKind::None) return failed(Step::OpenPath);
  if (!present.is(kind, id)) return found = present.kind, Outcome{ESTALE, Step::Unlink};
  const bool is_folder = kind == FileKind::Folder;
  // A folder in use stays where it is: renamed for a moment, its files would be missed.
  if (is_folder && !is_empty(folder, name)) return {ENOTEMPTY, Step::Unlink};
  const RandomName apart;
  if (rename_own(present, self, folder, name, folder, apart.get(), RENAME_NOREPLACE) != 0) {
    return failed(Step::Rename);
  }
  const Entry taken = Entry::open(folder, apart.get());
  Outcome outcome{ESTALE, Step::Unlink};
  if (taken.is(kind, id)) {
    if (::unlinkat(folder, apart.get(), is_folder ? AT_REMOVEDIR : 0) == 0) return {};
    outcome = failed(Step::Unlink);
  } else {
    found = taken.kind;
  }
  (void)rename_in(folder, apart.get(), folder, name, RENAME_NOREPLACE);
  return outcome;
}

/// Removes the folders of `bound` as far as they are empty and still the same, innermost first.
/// @param directory path of the innermost one, with its slash
void remove_parents(int root, std::string_view directory, const BoundFile& bound, uid_t self) {
  for (std::uint32_t left = bound.parents; left > 0;) {
    while (directory.ends_with('/')) directory.remove_suffix(1);
    if (directory.empty()) return;
    const Split split(directory);
    directory.remove_suffix(std::strlen(split.name));
    if (std::string_view(split.name) == ".") continue;
    if (!split.names_an_entry()) return;
    const UniqueFd folder = open_inside(root, split.directory, kFolder);
    FileKind found{};
    --left;
    if (!folder.valid() ||
        !remove_own(folder.get(), split.name, FileKind::Folder, bound.made[left], self, found)
             .ok()) {
      return;
    }
  }
}

/// Opens one component of a path, or makes it.
/// @param prefix the path up to and with the component @param name points to the component in it
/// @param folder the one before, replaced by the component
/// @return EEXIST: another process has made it meanwhile, or it is a link that leads nowhere
Outcome enter_or_make(int root, const char* prefix, const char* name, UniqueFd& folder,
                      BoundFile& bound) {
  if (bound.parents == 0) {  // otherwise the one before was made just now and is empty
    UniqueFd next = open_inside(root, prefix, kFolder);
    if (next.valid()) return folder = std::move(next), Outcome();
    if (errno != ENOENT) return failed(Step::OpenPath);
  }
  if (std::strcmp(name, "..") == 0 || bound.parents == kMostParents)
    return {ENOENT, Step::OpenPath};
  if (::mkdirat(folder.get(), name, kParentMode) != 0) return failed(Step::MakeFolder);
  Entry entry = Entry::open(folder.get(), name, kFolder | O_NOFOLLOW);
  if (entry.kind == FileKind::None) return failed(Step::MakeFolder);
  bound.made[bound.parents++] = entry.id;
  folder = std::move(entry.fd);
  return {};
}

/// Makes the missing folders of a path. Leaves none after a failure.
/// @param folder set to the last one @param bound gets the identities of those that were made
/// @return EEXIST as enter_or_make()
Outcome make_parents(int root, std::string_view directory, uid_t self, UniqueFd& folder,
                     BoundFile& bound) {
  assert(bound.parents == 0 && directory.starts_with('/'));
  folder = open_inside(root, "/", kFolder);
  if (!folder.valid()) return failed(Step::OpenPath);
  std::size_t made_to = 0;
  for (std::size_t end = 0; end < directory.size();) {
    const std::size_t begin = std::min(directory.find_first_not_of('/', end), directory.size());
    end = std::min(directory.find('/', begin), directory.size());
    const std::string_view component = directory.substr(begin, end - begin);
    if (component.empty() || component == ".") continue;
    char prefix[kPathSize]{};
    directory.copy(prefix, end);
    const Outcome outcome = enter_or_make(root, prefix, prefix + begin, folder, bound);
    if (!outcome.ok()) {
      remove_parents(root, directory.substr(0, made_to), bound, self);
      bound = {};
      return outcome;
    }
    if (bound.parents > 0) made_to = end;
  }
  return {};
}

/// Opens the folder of the path to create.
Outcome open_parent(const Request& request, int root, const Split& split, uid_t self,
                    UniqueFd& folder, BoundFile& bound) {
  folder = open_inside(root, split.directory, kFolder);
  if (folder.valid()) return {};
  if (errno != ENOENT || (request.flags & kMakeParents) == 0) return failed(Step::OpenPath);
  for (int i = 0; i < kMostTries; ++i) {
    const Outcome outcome = make_parents(root, split.directory, self, folder, bound);
    if (outcome.error != EEXIST) return outcome;
  }
  return {ENOENT, Step::OpenPath};
}

}  // namespace

Ids determine_ids() {
  // Without CAP_SETUID a process may only take an id that it has, which shows whether an id that
  // getuid() returns is its own or stands for one that is not mapped. Source: setresuid(2).
  set_effective_capabilities(false);
  Ids ids{::getuid(), ::getgid(), true};
  ids.known = ::syscall(SYS_setresuid, ids.uid, ids.uid, ids.uid) == 0 &&
              ::syscall(SYS_setresgid, ids.gid, ids.gid, ids.gid) == 0;
  set_effective_capabilities(true);
  if (ids.known) return ids;
  (void)::syscall(SYS_setgroups, 0, nullptr);  // those of the daemon's user
  const bool is_root =
      ::syscall(SYS_setresgid, 0, 0, 0) == 0 && ::syscall(SYS_setresuid, 0, 0, 0) == 0;
  return is_root ? Ids{0, 0, true} : ids;
}

/// The effective ids of another user inside, without capabilities, for the time of its scope.
class UnixSockets::PeerIds {
 public:
  explicit PeerIds(const Ids& own) : own_(own) {}
  PeerIds(const PeerIds&) = delete;
  PeerIds& operator=(const PeerIds&) = delete;
  ~PeerIds() {
    if (!taken_) return;
    const bool back = ::syscall(SYS_setresuid, kNoChange, own_.uid, kNoChange) == 0 &&
                      ::syscall(SYS_setresgid, kNoChange, own_.gid, kNoChange) == 0 &&
                      set_effective_capabilities(true);
    if (!back) ::_exit(1);  // the daemon starts another broker
  }

  Outcome take(uid_t uid, gid_t gid) {
    assert(!taken_);
    if (!own_.known) return {EPERM, Step::SetIds};
    taken_ = true;
    const bool ok = ::syscall(SYS_setresgid, kNoChange, gid, kNoChange) == 0 &&
                    ::syscall(SYS_setresuid, kNoChange, uid, kNoChange) == 0 &&
                    set_effective_capabilities(false);
    return ok ? Outcome() : failed(Step::SetIds);
  }

 private:
  const Ids& own_;
  bool taken_ = false;
};

Outcome UnixSockets::make_socket(const Request& request, int netns, UniqueFd& made) const {
  if (netns >= 0) {
    if (const Outcome entered = enter_netns(netns, home_); !entered.ok()) return entered;
  }
  made = UniqueFd(::socket(AF_UNIX, request.type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const Outcome outcome = made.valid() ? Outcome() : failed(Step::Socket);
  if (netns >= 0) go_home(home_);
  const int no = 0;
  if (made.valid() && (request.flags & kRefuseFds) != 0) {
    (void)::setsockopt(made.get(), SOL_SOCKET, kPassRights, &no, sizeof no);
  }
  return outcome;
}

Outcome UnixSockets::connect(const Request& request, int fd, FdBatch& made,
                             FileReport& file) const {
  const bool is_name = request.name_size > 0;
  UniqueFd socket;
  if (const Outcome outcome = make_socket(request, is_name ? fd : -1, socket); !outcome.ok()) {
    return outcome;
  }
  PeerIds ids(own_);
  if ((request.flags & kSetPeer) != 0) {
    if (const Outcome taken = ids.take(request.uid, request.gid); !taken.ok()) return taken;
  }
  if (is_name) {
    const NameAddress address(request);
    if (::connect(socket.get(), address.get(), address.size) != 0) return failed(Step::Connect);
  } else {
    const Entry target = Entry::open(fd, request.path, O_PATH);
    if (target.kind == FileKind::None) return failed(Step::OpenPath);
    if (target.kind != FileKind::Socket) {
      file.found = target.kind;
      return {ENOTSOCK, Step::Connect};
    }
    const DescriptorAddress address(target.fd.get());
    if (::connect(socket.get(), address.get(), DescriptorAddress::kSize) != 0) {
      return failed(Step::Connect);
    }
  }
  made.add(std::move(socket));
  return {};
}

Outcome UnixSockets::listen_at_path(const Request& request, int root, const UniqueFd& socket,
                                    FileReport& file) const {
  const Split split(request.path);
  if (!split.names_an_entry()) return {EINVAL, Step::Request};
  UniqueFd folder;
  Outcome outcome = open_parent(request, root, split, own_.uid, folder, file.bound);
  if (!outcome.ok()) return outcome;
  {
    Stage stage(folder.get());
    outcome = stage.make(own_.uid);
    if (outcome.ok()) outcome = stage.bind(request, socket.get());
    if (outcome.ok() && (request.flags & kReplace) != 0) {
      outcome = stage.replace(split.name, request.bound.file, own_.uid, file.found);
      if (outcome.error == ENOENT) outcome = stage.place(split.name, file.found);
    } else if (outcome.ok()) {
      outcome = stage.place(split.name, file.found);
    }
    file.bound.file = stage.own();
  }
  if (outcome.ok() && request.backlog >= 0 && ::listen(socket.get(), request.backlog) != 0) {
    outcome = failed(Step::Listen);
    (void)remove_own(folder.get(), split.name, FileKind::Socket, file.bound.file, own_.uid,
                     file.found);
  }
  if (outcome.ok()) return {};
  remove_parents(root, split.directory, file.bound, own_.uid);
  file.bound = {};
  return outcome;
}

Outcome UnixSockets::listen(const Request& request, int fd, FdBatch& made, FileReport& file) const {
  const bool is_name = request.name_size > 0;
  UniqueFd socket;
  if (const Outcome outcome = make_socket(request, is_name ? fd : -1, socket); !outcome.ok()) {
    return outcome;
  }
  if (is_name) {
    const NameAddress address(request);
    if (::bind(socket.get(), address.get(), address.size) != 0) return failed(Step::Bind);
    if (request.backlog >= 0 && ::listen(socket.get(), request.backlog) != 0) {
      return failed(Step::Listen);
    }
  } else if (const Outcome bound = listen_at_path(request, fd, socket, file); !bound.ok()) {
    return bound;
  }
  made.add(std::move(socket));
  return {};
}

Outcome UnixSockets::remove(const Request& request, int root, FileReport& file) const {
  const Split split(request.path);
  if (!split.names_an_entry()) return {EINVAL, Step::Request};
  const UniqueFd folder = open_inside(root, split.directory, kFolder);
  if (!folder.valid()) return failed(Step::OpenPath);
  const Outcome outcome = remove_own(folder.get(), split.name, FileKind::Socket, request.bound.file,
                                     own_.uid, file.found);
  if (outcome.ok() || outcome.error == ENOENT) {
    remove_parents(root, split.directory, request.bound, own_.uid);
  }
  return outcome;
}

}  // namespace portfwd::broker
