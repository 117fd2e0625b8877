// See podman_store.h. Source: inotify(7), containers-storage.conf(5), storage's containers.go.
#include "engine/podman_store.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/small_file.h"
#include "engine/answers.h"

namespace portfwd {
namespace {

constexpr std::string_view kFile = "containers.json";
constexpr std::size_t kLargest = 4UL << 20;  // bytes; a container takes some 500

/// Those of the storage drivers that are or were in use.
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
    files_.push_back(folder + "/" + std::string(kFile));
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
    return (event.mask & IN_Q_OVERFLOW) != 0 || event.name == kFile;
  });
  if (file_changed) read_names();
}

void PodmanStore::read_names() {
  const auto before = std::exchange(stored_, {});
  for (const std::string& file : files_) {
    for (ContainerFacts& facts :
         parse_stored_containers(read_small_file(file, kLargest).value_or(""))) {
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
