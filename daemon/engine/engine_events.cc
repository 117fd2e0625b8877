// See engine_events.h.

#include "engine/engine_events.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "base/log.h"
#include "base/small_file.h"
#include "engine/answers.h"

namespace portfwd {

// ---- docker

namespace {

using namespace std::chrono_literals;

constexpr Duration kFirstPause = 250ms;
constexpr Duration kLongestPause = 60s;
constexpr Duration kStableDuration = 30s;  // a stream of this duration resets the pause

// filters={"type":["container"],"event":["rename","create"]}
constexpr const char* kPath =
    "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22rename%22%2C"
    "%22create%22%5D%7D";

}  // namespace

DockerEvents::DockerEvents(EventLoop& loop, HttpClient& http, std::string socket, OnEvent on_event,
                           std::move_only_function<void()> on_missed)
    : loop_(loop),
      http_(http),
      socket_(std::move(socket)),
      on_event_(std::move(on_event)),
      on_missed_(std::move(on_missed)),
      pause_(kFirstPause),
      retry_(loop, [this] { open(); }) {
  open();
}

void DockerEvents::open() {
  stream_ = http_.stream({.socket = socket_, .path = kPath, .limit = 64UL << 10},
                         {.on_open = [this] { on_open(); },
                          .on_line = [this](std::string_view line) { on_line(line); },
                          .on_end = [this](const Error& why) { on_end(why); }});
}

void DockerEvents::on_open() {
  open_ = true;
  opened_ = loop_.now();
  if (std::exchange(was_open_, true)) on_missed_();
}

void DockerEvents::on_line(std::string_view line) {
  if (const auto event = parse_container_event(line)) on_event_(*event);
}

void DockerEvents::on_end(const Error& why) {
  const bool lasted = std::exchange(open_, false) && loop_.now() - opened_ >= kStableDuration;
  if (lasted) pause_ = kFirstPause;
  log::debug("docker's stream of events at {} ended: {}; retrying in {} ms", socket_, why.text(),
             std::chrono::duration_cast<std::chrono::milliseconds>(pause_).count());
  retry_.arm_after(pause_);
  pause_ = std::min(pause_ * 2, kLongestPause);
}

// ---- podman's events

// Source: inotify(7), podman-events(1).
namespace {

constexpr std::size_t kLongestLine = 64UL << 10;

}  // namespace

PodmanEvents::PodmanEvents(EventLoop& loop, OnEvent on_event)
    : on_event_(std::move(on_event)),
      inotify_(loop, [this](std::span<const Inotify::Event>) { read_new(); }) {}

Result<void> PodmanEvents::start(const std::string& path) {
  file_ = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file_.valid()) return fail("open");
  struct stat about {};
  if (::fstat(file_.get(), &about) != 0) return fail("fstat");
  if (!S_ISREG(about.st_mode)) return fail("open", EINVAL);
  if (::lseek(file_.get(), 0, SEEK_END) < 0) return fail("lseek");
  if (const auto watch = inotify_.add(path, IN_MODIFY); !watch) {
    return std::unexpected(watch.error());
  }
  return {};
}

/// podman may truncate the file. Nothing is read beyond its size at the beginning: for later writes
/// there is another inotify event.
void PodmanEvents::read_new() {
  struct stat now {};
  off_t at = ::lseek(file_.get(), 0, SEEK_CUR);
  if (at < 0 || ::fstat(file_.get(), &now) != 0) return;
  if (now.st_size < at) {
    at = ::lseek(file_.get(), 0, SEEK_SET);
    unread_.clear();
  }
  std::array<char, 16384> chunk;
  while (at < now.st_size) {
    const ssize_t got = ::read(file_.get(), chunk.data(), chunk.size());
    if (got <= 0) return;
    at += got;
    unread_.append(chunk.data(), static_cast<std::size_t>(got));
    parse_lines();
  }
}

void PodmanEvents::parse_lines() {
  std::size_t begin = 0;
  for (auto end = unread_.find('\n'); end != unread_.npos;
       begin = end + 1, end = unread_.find('\n', begin)) {
    const auto event = parse_container_event(std::string_view(unread_).substr(begin, end - begin));
    if (event) on_event_(*event);
  }
  unread_.erase(0, begin);
  if (unread_.size() > kLongestLine) unread_.clear();  // not written by podman
}

// ---- podman's storage

// Source: inotify(7), containers-storage.conf(5), storage's containers.go.
namespace {

constexpr std::string_view kStoreFile = "containers.json";
constexpr std::size_t kLargestStore = 4UL << 20;  // bytes; a container takes about 500

/// The folders DRIVER-containers of the storage drivers that are or were in use.
std::vector<std::string> folders_in(const std::string& storage) {
  std::vector<std::string> folders;
  std::error_code failed;
  std::filesystem::directory_iterator entry(storage, failed);
  for (; !failed && entry != std::filesystem::directory_iterator(); entry.increment(failed)) {
    std::string path = entry->path().string();
    if (path.ends_with("-containers")) folders.push_back(std::move(path));
  }
  return folders;
}

}  // namespace

PodmanStore::PodmanStore(EventLoop& loop, OnName on_name)
    : on_name_(std::move(on_name)),
      inotify_(loop, [this](std::span<const Inotify::Event> events) { on_events(events); }) {}

Result<void> PodmanStore::start(const std::string& storage) {
  files_.clear();
  for (const std::string& folder : folders_in(storage)) {
    if (!inotify_.add(folder, IN_MOVED_TO | IN_ONLYDIR)) continue;
    files_.push_back(folder + "/" + std::string(kStoreFile));
  }
  if (files_.empty()) return fail("inotify_add_watch", ENOENT);
  read_names();
  return {};
}

const ContainerFacts* PodmanStore::find(const std::string& id) const {
  const auto known = stored_.find(id);
  return known == stored_.end() ? nullptr : &known->second;
}

const ContainerFacts* PodmanStore::find_now(const std::string& id) {
  if (find(id) == nullptr) read_names();
  return find(id);
}

void PodmanStore::on_events(std::span<const Inotify::Event> events) {
  const bool file_changed = std::ranges::any_of(events, [](const Inotify::Event& event) {
    return (event.mask & IN_Q_OVERFLOW) != 0 || event.name == kStoreFile;
  });
  if (file_changed) read_names();
}

void PodmanStore::read_names() {
  const auto before = std::exchange(stored_, {});
  for (const std::string& file : files_) {
    for (ContainerFacts& facts :
         parse_stored_containers(read_small_file(file, kLargestStore).value_or(""))) {
      const std::string id = facts.id;
      stored_.emplace(id, std::move(facts));
    }
  }
  for (const auto& [id, facts] : stored_) {
    const auto known = before.find(id);
    if (known == before.end() || known->second.name != facts.name) on_name_(id, facts.name);
  }
}

}  // namespace portfwd
