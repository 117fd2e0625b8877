
#include "access/process_names.h"

#include <algorithm>
#include <set>
#include <span>
#include <utility>

#include "discover/names.h"
#include "kernel/netns.h"

namespace portfwd {

namespace {

constexpr int kAncestors = 8;  // that are searched for PORTFWD=off

}  // namespace

/// One search, in steps. Each step begins when the reply to the previous one has come.
class FoundProcessNames::Task : public std::enable_shared_from_this<Task> {
 public:
  Task(FoundProcessNames& owner, std::uint64_t netns, std::vector<std::uint32_t> inodes, Done done)
      : owner_(owner),
        netns_(netns),
        missing_(inodes.begin(), inodes.end()),
        done_(std::move(done)),
        start_(owner.parts_.loop, [this] { search_known(); }) {
    start_.arm_now();
  }

 private:
  struct Owner {
    pid_t pid;
    Reader* reader;  ///< the reader that found it
  };
  using Next = void (Task::*)();

  void search_known() {
    searched_ = owner_.parts_.discovery.processes_in(netns_);
    search(searched_, &owner_.parts_.reader, &Task::search_new);
  }

  void search_new() {
    if (missing_.empty()) return read_facts();
    const auto self = shared_from_this();
    owner_.parts_.discovery.check_new_processes();
    if (self.use_count() == 1) return;  // the search was cancelled: a scan may remove containers
    const std::vector<pid_t> now = owner_.parts_.discovery.processes_in(netns_);
    std::vector<pid_t> fresh;
    std::ranges::set_difference(now, searched_, std::back_inserter(fresh));
    searched_ = now;
    search(fresh, &owner_.parts_.reader, &Task::search_inside);
  }

  void search_inside() {
    Reader* inside = missing_.empty() ? nullptr : owner_.reader_inside(netns_);
    if (inside == nullptr) return read_facts();
    search(searched_, inside, &Task::read_facts);
  }

  void search(const std::vector<pid_t>& pids, Reader* reader, Next next) {
    if (pids.empty() || missing_.empty()) return (this->*next)();
    const std::vector<std::uint32_t> inodes(missing_.begin(), missing_.end());
    call_ = reader->find_owners(
        pids, inodes, [this, reader, next](const Result<Reader::Owners>& owners) {
          for (const auto& [inode, pid] : owners.value_or(Reader::Owners())) {
            if (missing_.erase(inode) > 0) owners_[inode] = {pid, reader};
          }
          (this->*next)();
        });
  }

  void read_facts() {
    for (const auto& [inode, owner] : owners_) to_read_[owner.pid] = owner.reader;
    read_next();
  }

  void read_next() {
    if (to_read_.empty()) return finish();
    const auto [pid, reader] = *to_read_.begin();
    to_read_.erase(to_read_.begin());
    read(pid, pid, reader == &owner_.parts_.reader ? nullptr : reader, 0);
  }

  /// Reads the facts of the listener's process `pid`. A server that wrote a title over its
  /// environment may have inherited PORTFWD=off from the shell or the supervisor that started it in
  /// the same network namespace, so its ancestors are read as well.
  /// @param of the process to read: `pid`, or its ancestor `depth` levels above
  void read(pid_t pid, pid_t of, Reader* by, int depth) {
    call_ = owner_.parts_.facts.read(of, by, [this, pid, of, by, depth](const ProcessFacts& facts) {
      const ProcDir& proc = owner_.parts_.proc;
      ListeningProgram& program = programs_[pid];
      if (of == pid) {
        program = {.pid = pid,
                   .name = names::printable(proc.comm(pid)),
                   .command = facts.command,
                   .cgroup_id = owner_.parts_.discovery.cgroup_of(pid)};
      }
      program.opted_out = facts.opted_out;
      if (facts.environment_lost && depth < kAncestors) {
        const pid_t parent = proc.parent(of);
        const bool inside = parent > 1 && proc.netns(parent).value_or(0) == netns_;
        if (inside) return read(pid, parent, by, depth + 1);
      }
      if (program.opted_out) owner_.parts_.facts.note_opt_out(pid);
      read_next();
    });
  }

  void finish() {
    Programs found;
    for (const auto& [inode, owner] : owners_) found[inode] = programs_[owner.pid];
    Done done = std::move(done_);
    done(std::move(found));  // this may destroy the task
  }

  FoundProcessNames& owner_;
  std::uint64_t netns_;
  std::set<std::uint32_t> missing_;
  Done done_;
  std::vector<pid_t> searched_;  ///< ascending
  std::map<std::uint32_t, Owner> owners_;
  std::map<pid_t, Reader*> to_read_;
  std::map<pid_t, ListeningProgram> programs_;
  Reader::Call call_;
  Timer start_;
};

FoundProcessNames::FoundProcessNames(const Parts& parts)
    : parts_(parts), idle_(parts.loop, [this] { end_idle_readers(); }) {}

ProcessNames::Search FoundProcessNames::find(std::uint64_t netns, std::vector<std::uint32_t> inodes,
                                             Done done) {
  return std::make_shared<Task>(*this, netns, std::move(inodes), std::move(done));
}

/// The reader in the user namespace through which the network namespace is entered, as brokers are.
/// Starts it if needed.
/// @return null when this process may not join any such namespace, or too many readers are in use
Reader* FoundProcessNames::reader_inside(std::uint64_t netns) {
  for (const pid_t pid : parts_.discovery.processes_in(netns)) {
    const auto opened = parts_.proc.open_netns(pid);
    if (!opened || opened->inode() != netns) continue;
    auto gate = entry_userns_of(opened->fd());
    if (!gate || !gate->open || !gate->userns.valid()) return nullptr;
    Inside& inside = inside_[gate->inode];
    if (!inside.reader) {
      for (auto each = inside_.begin(); each != inside_.end();) {
        const auto next = std::next(each);
        Inside& other = each->second;
        if (inside_.size() > kMostReaders && other.reader && other.reader->waiting() == 0) {
          end(std::move(other.reader));
          inside_.erase(each);
        }
        each = next;
      }
      if (inside_.size() > kMostReaders) {
        inside_.erase(gate->inode);
        return nullptr;
      }
      inside.reader = std::make_unique<Reader>(
          parts_.loop,
          Reader::Options{.program = parts_.program, .userns = std::move(gate->userns)});
    }
    inside.used = parts_.loop.now();
    if (!idle_.armed()) idle_.arm_after(kReaderIdle);
    return inside.reader.get();
  }
  return nullptr;
}

std::vector<const Reader*> FoundProcessNames::readers() const {
  std::vector<const Reader*> all;
  for (const auto& [userns, inside] : inside_) all.push_back(inside.reader.get());
  for (const auto& reader : ending_) all.push_back(reader.get());
  return all;
}

void FoundProcessNames::end_idle_readers() {
  const TimePoint now = parts_.loop.now();
  for (auto each = inside_.begin(); each != inside_.end();) {
    const auto next = std::next(each);
    Inside& inside = each->second;
    if (inside.used + kReaderIdle <= now && inside.reader->waiting() == 0) {
      end(std::move(inside.reader));
      inside_.erase(each);
    }
    each = next;
  }
  std::erase_if(ending_, [](const auto& reader) { return reader->is_stopped(); });
  if (!inside_.empty() || !ending_.empty()) idle_.arm_after(kReaderIdle);
}

void FoundProcessNames::end(std::unique_ptr<Reader> reader) {
  reader->stop_if_idle();
  if (!reader->is_stopped()) ending_.push_back(std::move(reader));
}

/// A process that has listeners open; watched until it exits.
class ListenerNames::WatchedProcess final : public Retirable, private IoHandler {
 public:
  WatchedProcess(ListenerNames& owner, pid_t pid, UniqueFd pidfd)
      : owner_(owner),
        pid_(pid),
        pidfd_(std::move(pidfd)),
        source_(owner.loop_, pidfd_.get(), *this) {}
  [[nodiscard]] bool watch() { return source_.watch(EPOLLIN).has_value(); }
  void disarm() { source_.disarm(); }

 private:
  void on_io(IoSource&, std::uint32_t) override { owner_.on_exit(pid_); }

  ListenerNames& owner_;
  pid_t pid_;
  UniqueFd pidfd_;
  IoSource source_;
};

ListenerNames::ListenerNames(EventLoop& loop, ProcessNames& names, std::uint64_t netns,
                             std::function<void()> on_change)
    : loop_(loop),
      names_(names),
      netns_(netns),
      on_change_(std::move(on_change)),
      timer_(loop, [this] { on_timer(); }) {}

ListenerNames::~ListenerNames() = default;

std::vector<Listener> ListenerNames::name(std::vector<Listener> now) {
  const TimePoint time = loop_.now();
  for (auto& [key, known] : known_) known.seen = false;
  std::vector<Listener> shown;
  shown.reserve(now.size());
  for (Listener& listener : now) {
    const std::uint64_t cookie = listener.inode != 0 ? 0 : listener.cookie;
    const auto [place, fresh] = known_.try_emplace(Key(cookie, listener.inode, listener.local));
    Known& known = place->second;
    known.seen = true;
    if (fresh && listener.inode != 0 && netns_ != 0) {
      known.shown_from = time + kLongestWait;
    } else if (fresh) {
      known.search_at = TimePoint::max();  // it cannot be looked up without these
    }
    if (known.program.pid == 0 && known.shown_from > time) continue;
    listener.process = known.program.name;
    listener.command = known.program.command;
    listener.opted_out = known.program.opted_out;
    if (listener.cgroup_id == 0) listener.cgroup_id = known.program.cgroup_id;
    shown.push_back(std::move(listener));
  }
  std::erase_if(known_, [](const auto& each) { return !each.second.seen; });
  std::set<pid_t> holders;
  for (const auto& [key, known] : known_) holders.insert(known.program.pid);
  for (auto each = watched_.begin(); each != watched_.end();) {
    if (holders.contains(each->first)) {
      ++each;
      continue;
    }
    each->second->disarm();
    loop_.retire(std::move(each->second));
    each = watched_.erase(each);
  }
  arm();
  return shown;
}

bool ListenerNames::all_reported() const {
  return std::ranges::none_of(known_, [](const auto& each) {
    return each.second.program.pid == 0 && each.second.shown_from != TimePoint();
  });
}

void ListenerNames::arm() {
  const TimePoint time = loop_.now();
  TimePoint next = TimePoint::max();
  for (const auto& [key, known] : known_) {
    if (!search_) next = std::min(next, std::max(known.search_at, next_search_));
    if (known.program.pid == 0 && known.shown_from > time) next = std::min(next, known.shown_from);
  }
  if (next == TimePoint::max()) return timer_.disarm();
  timer_.arm_at(std::max(next, time));
}

void ListenerNames::on_timer() {
  search();
  const TimePoint time = loop_.now();
  bool over = false;
  for (auto& [key, known] : known_) {
    const bool held = known.program.pid == 0 && known.shown_from != TimePoint();
    if (!held || known.shown_from > time) continue;
    known.shown_from = TimePoint();
    over = true;
  }
  arm();
  if (over) on_change_();
}

/// Starts one search for all listeners that are due.
void ListenerNames::search() {
  const TimePoint time = loop_.now();
  if (search_ || time < next_search_) return;
  std::vector<std::uint32_t> inodes;
  for (auto& [key, known] : known_) {
    if (known.search_at > time || inodes.size() == broker::kMostInodes) continue;
    known.search_at = time + known.pause;
    known.pause = std::min(2 * known.pause, kLongestPause);
    inodes.push_back(std::get<1>(key));
  }
  if (inodes.empty()) return;
  credit_ = std::min(kMostCredit, credit_ + (time - search_begun_) / kShare);
  search_begun_ = time;
  search_ = names_.find(netns_, std::move(inodes),
                        [this](const ProcessNames::Programs& programs) { found(programs); });
}

void ListenerNames::found(const ProcessNames::Programs& programs) {
  search_.reset();
  const Duration took = loop_.now() - search_begun_;
  credit_ -= took;
  if (credit_ < Duration()) next_search_ = loop_.now() - kShare * credit_;
  bool changed = false;
  for (auto& [key, known] : known_) {
    const auto program = programs.find(std::get<1>(key));
    if (program == programs.end()) continue;
    known.program = program->second;
    known.search_at = TimePoint::max();
    known.pause = kFirstPause;
    changed = true;
  }
  for (const auto& [inode, program] : programs) watch_exit(program.pid);
  arm();
  if (changed) on_change_();
}

void ListenerNames::watch_exit(pid_t pid) {
  if (watched_.contains(pid) || watched_.size() >= kMostWatched) return;
  auto pidfd = open_pidfd(pid);
  if (!pidfd) return on_exit(pid);
  auto watched = std::make_unique<WatchedProcess>(*this, pid, std::move(*pidfd));
  if (watched->watch()) watched_.emplace(pid, std::move(watched));
}

/// Looks the sockets of the process up again after a pause. Most sockets are closed with their
/// process; one that still exists then belongs to another process.
void ListenerNames::on_exit(pid_t pid) {
  if (const auto watched = watched_.find(pid); watched != watched_.end()) {
    watched->second->disarm();
    loop_.retire(std::move(watched->second));
    watched_.erase(watched);
  }
  for (auto& [key, known] : known_) {
    if (known.program.pid != pid) continue;
    known.pause = kFirstPause;
    known.search_at = loop_.now() + kLongestWait;
  }
  arm();
}

}  // namespace portfwd
