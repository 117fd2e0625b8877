// What people ask of the Registry: find by text, attach, detach; each refusal says what to do.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

#include "discover/registry_entry.h"
#include "kernel/procfs.h"

namespace portfwd {
namespace {

using Kind = Refusal::Kind;

constexpr std::size_t kMountinfoLimit = 1 << 20;

constexpr std::size_t kMostNamed = 8;  ///< of the containers that a refusal lists

/// @param by_name whether `text` is the name of all of them, else their ids begin so
std::unexpected<Refusal> ambiguous(std::string_view text, std::span<const Container* const> all,
                                   bool by_name) {
  std::string ids;
  for (const Container* container : all.first(std::min(all.size(), kMostNamed))) {
    ids += (ids.empty() ? "" : ", ") + container->id;
  }
  if (all.size() > kMostNamed) ids += fmt::format(" and {} more", all.size() - kMostNamed);
  const std::string what = names::printable(text);
  return refuse(Kind::Ambiguous,
                by_name ? fmt::format("{} containers are called \"{}\": name one by its id: {}",
                                      all.size(), what, ids)
                        : fmt::format("\"{}\" may be any of {}: give more of the id", what, ids));
}

Refusal why_not_held(pid_t pid, const Error& error) {
  if (error.code == EACCES || error.code == EPERM) {
    return {Kind::Inaccessible,
            fmt::format("process {} belongs to another user: run portfwd as that user or as root",
                        pid)};
  }
  if (error.code == ESRCH || error.code == ENOENT || error.code == EINVAL) {
    return {Kind::InvalidArgument,
            fmt::format("there is no process {}: give the pid of one that runs in the container, "
                        "as the host counts",
                        pid)};
  }
  return {Kind::Failed, fmt::format("process {}: {}", pid, error.text())};
}

Answer<void> check(const Boundary& boundary, const Netns& netns, const Boundary::Verdict& verdict) {
  if (boundary.is_ours(netns.inode())) {
    return refuse(Kind::InvalidArgument,
                  "this is the network namespace that portfwd itself runs in or was started from: "
                  "its ports need no forwarding");
  }
  if (verdict.outside) {
    return refuse(Kind::Inaccessible,
                  "the namespace belongs to a user namespace outside portfwd's own: run portfwd "
                  "outside of this container");
  }
  if (!verdict.inaccessible.empty()) return refuse(Kind::Inaccessible, verdict.inaccessible);
  return {};
}

}  // namespace

Answer<const Container*> Registry::resolve(std::string_view text) const {
  if (text.empty()) return refuse(Kind::InvalidArgument, "name a container: its id or its name");
  if (const Container* exact = find(text)) return exact;
  std::vector<const Container*> named, begun;
  for (const auto& [key, entry] : entries_) {
    if (entry->forgotten) continue;
    const Container& container = entry->container;
    if (container.name == text) named.push_back(&container);
    const bool begins = container.id.starts_with(text) || container.engine_id.starts_with(text);
    if (begins) begun.push_back(&container);
  }
  const auto& hits = named.empty() ? begun : named;
  if (hits.size() == 1) return hits.front();
  if (!hits.empty()) return ambiguous(text, hits, !named.empty());
  return refuse(Kind::NoSuchContainer,
                fmt::format("there is no container \"{}\": `portfwdctl containers --all` has them "
                            "all, `portfwdctl attach` adds one",
                            names::printable(text)));
}

Answer<const Container*> Registry::attach_pid(pid_t pid, std::string_view name) {
  if (pid <= 0) return refuse(Kind::InvalidArgument, "a pid is a number from 1 on");
  auto held = hold(proc_, pid);
  if (!held) return std::unexpected(why_not_held(pid, held.error()));
  const Boundary::Verdict verdict = boundary_.judge(held->netns);
  if (auto allowed = check(boundary_, held->netns, verdict); !allowed) {
    return std::unexpected(allowed.error());
  }
  Sighting sighting;
  sighting.pid = pid;
  sighting.pidfd = std::move(held->pidfd);
  sighting.uid = verdict.owner;
  sighting.netns = std::move(held->netns);
  sighting.identity = identifier_.identify(pid);
  return attach(std::move(sighting), name);
}

Answer<const Container*> Registry::attach_netns(UniqueFd fd, std::string_view name) {
  auto netns = Netns::adopt(std::move(fd));
  if (!netns) {
    return refuse(Kind::InvalidArgument,
                  "this is no network namespace: give a file such as /run/netns/NAME or "
                  "/proc/PID/ns/net");
  }
  const Boundary::Verdict verdict = boundary_.judge(*netns);
  if (auto allowed = check(boundary_, *netns, verdict); !allowed) {
    return std::unexpected(allowed.error());
  }
  Sighting sighting;
  sighting.uid = verdict.owner;
  sighting.path = path_of(*netns);
  sighting.kept = sighting.path.empty();
  const std::string base = sighting.path.substr(sighting.path.rfind('/') + 1);
  sighting.identity = {"netns", "", base.empty() ? fmt::format("netns-{}", netns->inode()) : base};
  sighting.netns = std::move(*netns);
  return attach(std::move(sighting), name);
}

const Container* Registry::attach(Sighting sighting, std::string_view name) {
  ContainerKey key{sighting.netns->inode(), sighting.identity.engine_id};
  const bool new_there = !key.engine_id.empty() && !knows_engine_id(key.engine_id);
  if (!knows(key) && !new_there) key = first_in(key.netns).value_or(key);
  sighting.attached = true;
  sighting.named = !name.empty();
  if (sighting.named) sighting.identity.name = names::printable(name);
  const auto known = entries_.find(key);
  if (known == entries_.end()) return add(std::move(sighting));

  Entry& entry = *known->second;
  entry.container.attached = true;
  if (!sighting.path.empty()) entry.container.path = sighting.path;
  // A namespace in which processes are seen ends with them; the descriptor alone has no end.
  entry.kept = entry.kept || (sighting.kept && !entry.anchor);
  if (sighting.named) entry.container.name = sighting.identity.name;
  entry.named_by_person = entry.named_by_person || sighting.named;
  if (std::exchange(entry.forgotten, false)) {
    entry.container.id = new_id(entry.container.engine_id);
    announce(entry);
  } else {
    changed(entry);
  }
  return &entry.container;
}

Answer<void> Registry::detach(std::string_view id) {
  const auto it = entry_of(id);
  if (it == entries_.end()) {
    return refuse(Kind::NoSuchContainer,
                  fmt::format("there is no container \"{}\"", names::printable(id)));
  }
  Entry& entry = *it->second;
  entry.forgotten = true;
  entry.kept = false;
  entry.container.attached = entry.named_by_person = false;
  for (std::size_t i = 0; i < observers_.size(); ++i) {
    observers_[i]->on_container_removed(entry.container, RemovalReason::Detached);
  }
  remove_if_unheld(ContainerKey(entry.key));
  return {};
}

std::string Registry::path_of(const Netns& netns) const {
  const std::string file = proc_.path() + "/self/mountinfo";
  const std::string text = read_text(AT_FDCWD, file.c_str(), kMountinfoLimit).value_or("");
  for (const procfs::Mount& mount : procfs::parse_mountinfo(text)) {
    if (mount.type == "nsfs" && procfs::parse_netns_link(mount.root) == netns.inode()) {
      return mount.point;
    }
  }
  return {};
}

}  // namespace portfwd
