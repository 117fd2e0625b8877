#include "access/listener_names.h"

#include <algorithm>
#include <set>
#include <utility>

#include "kernel/pidfd.h"

namespace portfwd {

/// A process that has sockets of ours, until it ends.
class ListenerNames::Followed final : public Retirable, private IoHandler {
 public:
  Followed(ListenerNames& owner, pid_t pid, UniqueFd pidfd)
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
      known.shown_from = time + kHold;
    } else if (fresh) {
      known.look_at = TimePoint::max();  // nothing to look it up by
    }
    if (known.program.pid == 0 && known.shown_from > time) continue;
    listener.process = known.program.name;
    listener.command = known.program.command;
    listener.opted_out = known.program.opted_out;
    shown.push_back(std::move(listener));
  }
  std::erase_if(known_, [](const auto& each) { return !each.second.seen; });
  std::set<pid_t> holders;
  for (const auto& [key, known] : known_) holders.insert(known.program.pid);
  for (auto each = followed_.begin(); each != followed_.end();) {
    if (holders.contains(each->first)) {
      ++each;
      continue;
    }
    each->second->disarm();
    loop_.retire(std::move(each->second));
    each = followed_.erase(each);
  }
  arm();
  return shown;
}

bool ListenerNames::settled() const {
  return std::ranges::none_of(known_, [](const auto& each) {
    return each.second.program.pid == 0 && each.second.shown_from != TimePoint();
  });
}

void ListenerNames::arm() {
  const TimePoint time = loop_.now();
  TimePoint next = TimePoint::max();
  for (const auto& [key, known] : known_) {
    if (!search_) next = std::min(next, std::max(known.look_at, next_search_));
    if (known.program.pid == 0 && known.shown_from > time) next = std::min(next, known.shown_from);
  }
  if (next == TimePoint::max()) return timer_.disarm();
  timer_.arm_at(std::max(next, time));
}

void ListenerNames::on_timer() {
  look();
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

/// All that are due, in one search.
void ListenerNames::look() {
  const TimePoint time = loop_.now();
  if (search_ || time < next_search_) return;
  std::vector<std::uint32_t> inodes;
  for (auto& [key, known] : known_) {
    if (known.look_at > time || inodes.size() == broker::kMostInodes) continue;
    known.look_at = time + known.pause;
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
    known.look_at = TimePoint::max();
    known.pause = kFirstPause;
    changed = true;
  }
  for (const auto& [inode, program] : programs) follow(program.pid);
  arm();
  if (changed) on_change_();
}

void ListenerNames::follow(pid_t pid) {
  if (followed_.contains(pid) || followed_.size() >= kMostFollowed) return;
  auto pidfd = open_pidfd(pid);
  if (!pidfd) return on_exit(pid);
  auto followed = std::make_unique<Followed>(*this, pid, std::move(*pidfd));
  if (followed->watch()) followed_.emplace(pid, std::move(followed));
}

/// Most sockets go with their process: what is still there after a pause is another one's.
void ListenerNames::on_exit(pid_t pid) {
  if (const auto followed = followed_.find(pid); followed != followed_.end()) {
    followed->second->disarm();
    loop_.retire(std::move(followed->second));
    followed_.erase(followed);
  }
  for (auto& [key, known] : known_) {
    if (known.program.pid != pid) continue;
    known.pause = kFirstPause;
    known.look_at = loop_.now() + kHold;
  }
  arm();
}

}  // namespace portfwd
