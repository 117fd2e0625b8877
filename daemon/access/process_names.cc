#include "access/process_names.h"

#include <algorithm>
#include <set>
#include <span>
#include <utility>

#include "discover/names.h"
#include "kernel/netns.h"

namespace portfwd {

namespace {

constexpr int kAncestors = 8;  // that a PORTFWD=off is looked for in

}  // namespace

/// One search, in steps; each begins when the answer to the one before has come.
class FoundProcessNames::Task : public std::enable_shared_from_this<Task> {
 public:
  Task(FoundProcessNames& owner, std::uint64_t netns, std::vector<std::uint32_t> inodes, Done done)
      : owner_(owner),
        netns_(netns),
        missing_(inodes.begin(), inodes.end()),
        done_(std::move(done)),
        start_(owner.parts_.loop, [this] { look_among_known(); }) {
    start_.arm_now();
  }

 private:
  struct Owner {
    pid_t pid;
    Reader* reader;  ///< by which it was found
  };
  using Next = void (Task::*)();

  void look_among_known() {
    looked_at_ = owner_.parts_.discovery.processes_in(netns_);
    search(looked_at_, &owner_.parts_.reader, &Task::look_among_new);
  }

  void look_among_new() {
    if (missing_.empty()) return read_facts();
    const auto self = shared_from_this();
    owner_.parts_.discovery.look_for_new();
    if (self.use_count() == 1) return;  // who asked has gone with a container
    const std::vector<pid_t> now = owner_.parts_.discovery.processes_in(netns_);
    std::vector<pid_t> fresh;
    std::ranges::set_difference(now, looked_at_, std::back_inserter(fresh));
    looked_at_ = now;
    search(fresh, &owner_.parts_.reader, &Task::look_inside);
  }

  void look_inside() {
    Reader* inside = missing_.empty() ? nullptr : owner_.reader_inside(netns_);
    if (inside == nullptr) return read_facts();
    search(looked_at_, inside, &Task::read_facts);
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

  /// A server whose title is in its environment's place has inherited PORTFWD=off from the shell or
  /// the supervisor that started it in the same network.
  /// @param of the listener's process, or an ancestor of it, `depth` above
  void read(pid_t pid, pid_t of, Reader* by, int depth) {
    call_ = owner_.parts_.facts.read(of, by, [this, pid, of, by, depth](const ProcessFacts& facts) {
      const ProcDir& proc = owner_.parts_.proc;
      ListeningProgram& program = programs_[pid];
      if (of == pid) program = {pid, names::printable(proc.comm(pid)), facts.command};
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
    done(std::move(found));  // which may end this task
  }

  FoundProcessNames& owner_;
  std::uint64_t netns_;
  std::set<std::uint32_t> missing_;
  Done done_;
  std::vector<pid_t> looked_at_;  ///< ascending
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

/// In the user namespace through which the network namespace is entered, as the brokers are.
/// @return null when there is none that we may join, or too many are in use
Reader* FoundProcessNames::reader_inside(std::uint64_t netns) {
  for (const pid_t pid : parts_.discovery.processes_in(netns)) {
    const auto opened = parts_.proc.open_netns(pid);
    if (!opened || opened->inode() != netns) continue;
    auto gate = gate_of(opened->fd());
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
  std::erase_if(ending_, [](const auto& reader) { return reader->at_rest(); });
  if (!inside_.empty() || !ending_.empty()) idle_.arm_after(kReaderIdle);
}

void FoundProcessNames::end(std::unique_ptr<Reader> reader) {
  reader->rest();
  if (!reader->at_rest()) ending_.push_back(std::move(reader));
}

}  // namespace portfwd
